//! What was measured, as medians with spreads, and the table.
//! Must not leave a missed goal out.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::goals::Judged;

/// A line of the driver.
#[derive(Debug, Deserialize)]
struct Record {
    row: String,
    peer: String,
    figures: BTreeMap<String, f64>,
    busy: Option<f64>,
    steal: Option<f64>,
}

/// The values of one figure, one for each round.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<f64>);

impl Series {
    pub(super) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        }
    }

    fn range(&self) -> Option<(f64, f64)> {
        let low = self.0.iter().copied().reduce(f64::min)?;
        let high = self.0.iter().copied().reduce(f64::max)?;
        Some((low, high))
    }
}

/// Everything that was measured: by row, peer and figure.
#[derive(Debug, Default)]
pub(super) struct Measured {
    series: BTreeMap<(String, String, String), Series>,
    busy: Series,
    steal: Series,
}

impl Measured {
    pub(super) fn read(lines: &str) -> Result<Self> {
        let mut measured = Self::default();
        for line in lines.lines() {
            let record: Record = serde_json::from_str(line)
                .with_context(|| format!("the driver printed `{line}`"))?;
            measured.busy.0.extend(record.busy);
            measured.steal.0.extend(record.steal);
            for (figure, value) in record.figures {
                let key = (record.row.clone(), record.peer.clone(), figure);
                measured.series.entry(key).or_default().0.push(value);
            }
        }
        Ok(measured)
    }

    /// The median of a figure over the rounds, if it was measured.
    pub(super) fn median(&self, row: &str, peer: &str, figure: &str) -> Option<f64> {
        let key = (row.to_owned(), peer.to_owned(), figure.to_owned());
        self.series.get(&key)?.median()
    }

    fn series(&self, row: &str, peer: &str, figure: &str) -> Series {
        let key = (row.to_owned(), peer.to_owned(), figure.to_owned());
        self.series.get(&key).cloned().unwrap_or_default()
    }
}

/// Names of figures, each with how it is shown.
type Names = &'static [(&'static str, &'static str)];
/// Rows of the second table: what was measured of every peer.
const RAW: &[(&str, &str, Names)] = &[
    ("echo-apart", "64 B echo, two processors", LATENCY),
    ("echo-same", "64 B echo, one processor", LATENCY),
    ("echo-64", "64 B echo, 64 outstanding", RATE),
    ("open-50", "open loop at half of its peak", RATE),
    ("open-80", "open loop at 80 % of its peak", RATE),
    ("bulk", "bulk, one stream", &[("gbit_s", "Gbit/s")]),
    (
        "messages",
        "64 B messages one way, 64 in a write",
        &[("per_s", "/s")],
    ),
    ("handshake", "handshake to the first answer", LATENCY),
    (
        "idle",
        "idle connections",
        &[
            ("kb_per_connection", "kB each"),
            ("live", "live"),
            ("accepted_per_s", "accepted/s"),
        ],
    ),
    (
        "control-near",
        "control beside 4 bulk streams, loopback",
        BESIDE,
    ),
    ("far", "the same, 100 Mbit/s and 50 ms", BESIDE),
    ("far-loss", "the same with 1 % loss", BESIDE),
    (
        "far-hundred",
        "the same without loss, 100 bulk streams",
        BESIDE,
    ),
    (
        "logs-most",
        "log lines of 128 B, durable",
        &[("per_s", "/s")],
    ),
    ("logs-rate", "100,000 log lines a second, durable", LATENCY),
    ("offers-1", "offer and acceptance, one agent", LATENCY),
    (
        "offers-1000",
        "20,000 offers a second, 1,000 agents",
        LATENCY,
    ),
    (
        "reconnect",
        "first answer after a cut of 5 s",
        &[("again_ms", "ms")],
    ),
    (
        "kills",
        "kills of both ends of a log and a transfer, by seeds",
        &[("seeds", "seeds, nothing lost or doubled")],
    ),
];
const LATENCY: Names = &[("p50_us", "us p50"), ("p99_us", "us p99")];
const RATE: Names = &[("per_s", "/s"), ("p50_us", "us p50"), ("p99_us", "us p99")];
const BESIDE: Names = &[
    ("p50_us", "us p50"),
    ("p99_us", "us p99"),
    ("bulk_gbit_s", "Gbit/s bulk"),
];
/// Peers in the order of the table, and how they are called.
const PEERS: Names = &[
    ("valkyrie", "Valkyrie"),
    ("valkyrie-tcp", "Valkyrie over TCP"),
    ("quinn", "quinn, a stream for each request"),
    ("quinn-long", "quinn, long streams"),
    ("tcp", "framed TCP + TLS"),
    ("tonic", "tonic unary"),
    ("tonic-stream", "tonic streaming"),
    ("nats", "NATS without TLS"),
];

/// The section.
pub(super) fn markdown(measured: &Measured, judged: &[Judged], quick: bool) -> String {
    let (way, size) = match quick {
        true => (" --quick", "few and short rounds"),
        false => ("", "full rounds"),
    };
    let busy = |series: &Series| {
        let (low, high) = series.range().unwrap_or_default();
        let median = series.median().unwrap_or_default();
        format!(
            "{:.0} % ({:.0} to {:.0})",
            median * 100.0,
            low * 100.0,
            high * 100.0
        )
    };
    let mut text = format!(
        "Written by `cargo xtask bench valkyrie{way}` ({size}). Server and client are processes of \
         one thread, on processor 0 and 1; peers take turns in each round; medians of the rounds, \
         with the smallest and largest. Mutual TLS 1.3 with ECDSA P-256 everywhere but at NATS, \
         which goes without and has its server beside the answering end. Raw quinn has Valkyrie's \
         transport settings. The far path is a user-space relay between network namespaces: \
         100 Mbit/s, 50 ms to and fro, a queue of 50 ms. Before each measurement the processors \
         were busy to {}, of which stolen {}.\n\n\
         | what | goal | measured | reached |\n|---|---|---|---|\n",
        busy(&measured.busy),
        busy(&measured.steal)
    );
    for row in judged {
        let reached = row.verdict.word();
        text.push_str(&format!(
            "| {} | {} | {} | {reached} |\n",
            row.what, row.goal, row.measured
        ));
    }
    text.push_str(
        "\nEvery figure, in both directions, with the processor time and the memory of both ends \
         (of all clients together):\n\n\
         | what | who | measured | server | client |\n|---|---|---|---|---|\n",
    );
    for (row, what, figures) in RAW {
        for (peer, who) in PEERS {
            let cells: Vec<String> = figures
                .iter()
                .filter_map(|(figure, unit)| shown(&measured.series(row, peer, figure), unit))
                .collect();
            if !cells.is_empty() {
                let (server, client) = (
                    used(measured, (row, peer), "server"),
                    used(measured, (row, peer), "client"),
                );
                let cells = cells.join("; ");
                text.push_str(&format!(
                    "| {what} | {who} | {cells} | {server} | {client} |\n"
                ));
            }
        }
    }
    text
}

/// What one end has used, as medians.
fn used(measured: &Measured, (row, peer): (&str, &str), end: &str) -> String {
    let median = |figure: &str| measured.median(row, peer, &format!("{end}_{figure}"));
    let cpu = median("cpu_s").map(|cpu| format!("{} s", number(cpu)));
    let memory = median("rss_kb").map(|kb| format!("{} MB", number(kb / 1000.0)));
    let both: Vec<String> = cpu.into_iter().chain(memory).collect();
    both.join(", ")
}

fn shown(series: &Series, unit: &str) -> Option<String> {
    let (low, high) = series.range()?;
    let median = series.median()?;
    Some(format!(
        "{} ({} to {}) {unit}",
        number(median),
        number(low),
        number(high)
    ))
}

/// Three digits are enough.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_rounds_counts_and_a_missed_goal_is_printed() {
        let lines = [100.0, 300.0, 110.0].map(|value| {
            format!(
                r#"{{"row":"echo-apart","peer":"valkyrie","round":0,"figures":{{"p50_us":{value}}},"busy":0.5,"steal":0.0}}"#
            )
        });
        let quinn = r#"{"row":"echo-apart","peer":"quinn","round":0,"figures":{"p50_us":90},"busy":0.5,"steal":0.0}"#;
        let measured = Measured::read(&format!("{}\n{quinn}", lines.join("\n"))).unwrap();
        assert_eq!(
            measured.median("echo-apart", "valkyrie", "p50_us"),
            Some(110.0)
        );
        let judged = super::super::goals::judge(&measured);
        let text = markdown(&measured, &judged, true);
        assert!(text.contains("110 us, 1.22x raw quinn | **no**"), "{text}");
        assert!(
            text.contains("| Valkyrie | 110 (100 to 300) us p50 |"),
            "{text}"
        );
        assert!(text.contains("not measured"), "{text}");
        assert!(text.contains("busy to 50 %"), "{text}");
    }

    #[test]
    fn a_line_that_is_no_record_is_an_error() {
        assert!(Measured::read("hello").is_err());
    }
}
