//! The goals, each with what was measured.
//! Must not be softened: a goal that was missed stays in the table.

use super::table::{Measured, number};

/// One row of the table.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) what: String,
    pub(super) goal: String,
    pub(super) measured: String,
    pub(super) verdict: Verdict,
}

/// What came of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Reached,
    Missed,
    /// Of a comparison without a goal.
    Better,
    /// Of a comparison without a goal.
    Worse,
    NotMeasured,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Reached => "yes",
            Verdict::Missed => "**no**",
            Verdict::Better => "better",
            Verdict::Worse => "**worse**",
            Verdict::NotMeasured => "not measured",
        }
    }
}

const OURS: &str = "valkyrie";
const TCP: &str = "valkyrie-tcp";

/// Collects rows.
struct Judge<'a> {
    measured: &'a Measured,
    rows: Vec<Judged>,
}

/// A figure of one peer in one row.
type Figure<'a> = (&'a str, &'a str, &'a str);

impl Judge<'_> {
    fn value(&self, (row, peer, figure): Figure<'_>) -> Option<f64> {
        self.measured.median(row, peer, figure)
    }

    fn row(&mut self, what: &str, goal: &str, measured: Option<(String, bool)>) {
        let (measured, verdict) = match measured {
            Some((measured, true)) => (measured, Verdict::Reached),
            Some((measured, false)) => (measured, Verdict::Missed),
            None => (String::new(), Verdict::NotMeasured),
        };
        self.rows.push(Judged {
            what: what.to_owned(),
            goal: goal.to_owned(),
            measured,
            verdict,
        });
    }

    /// Beside a peer of which no goal speaks; `more` says whether more is better.
    fn beside(&mut self, what: &str, ours: Figure<'_>, theirs: Figure<'_>, more: bool, unit: &str) {
        let compared = self.compared(ours, theirs, unit);
        let (measured, verdict) = match compared {
            Some((text, ratio)) if (ratio >= 1.0) == more => (text, Verdict::Better),
            Some((text, _)) => (text, Verdict::Worse),
            None => (String::new(), Verdict::NotMeasured),
        };
        self.rows.push(Judged {
            what: what.to_owned(),
            goal: String::new(),
            measured,
            verdict,
        });
    }

    /// At most this many times a peer's figure.
    fn at_most(
        &mut self,
        what: &str,
        ours: Figure<'_>,
        theirs: Figure<'_>,
        times: f64,
        unit: &str,
    ) {
        let name = called(theirs.1);
        let goal = format!("<= {times:.2}x {name}");
        let compared = self.compared(ours, theirs, unit);
        let judged = compared.map(|(text, ratio)| (text, ratio <= times));
        self.row(what, &goal, judged);
    }

    /// At least this many times a peer's figure.
    fn at_least(
        &mut self,
        what: &str,
        ours: Figure<'_>,
        theirs: Figure<'_>,
        times: f64,
        unit: &str,
    ) {
        let name = called(theirs.1);
        let goal = format!(">= {times:.2}x {name}");
        let compared = self.compared(ours, theirs, unit);
        let judged = compared.map(|(text, ratio)| (text, ratio >= times));
        self.row(what, &goal, judged);
    }

    fn compared(&self, ours: Figure<'_>, theirs: Figure<'_>, unit: &str) -> Option<(String, f64)> {
        let (value, other) = (self.value(ours)?, self.value(theirs)?);
        let ratio = value / other;
        let text = format!(
            "{} {unit}, {}x {}",
            number(value),
            number(ratio),
            called(theirs.1)
        );
        Some((text, ratio))
    }

    /// At most a value; the figure is multiplied first.
    fn below(&mut self, what: &str, ours: Figure<'_>, scale: f64, most: f64, unit: &str) {
        let value = self.value(ours).map(|value| value * scale);
        let judged = value.map(|value| (format!("{} {unit}", number(value)), value <= most));
        self.row(what, &format!("<= {} {unit}", number(most)), judged);
    }

    /// At least a value; the figure is multiplied first.
    fn above(&mut self, what: &str, ours: Figure<'_>, scale: f64, least: f64, unit: &str) {
        let value = self.value(ours).map(|value| value * scale);
        let judged = value.map(|value| (format!("{} {unit}", number(value)), value >= least));
        self.row(what, &format!(">= {} {unit}", number(least)), judged);
    }
}

fn called(peer: &str) -> &str {
    match peer {
        "quinn" => "raw quinn",
        "quinn-long" => "raw quinn on long streams",
        "tcp" => "framed TCP",
        "tonic" => "tonic unary",
        "tonic-stream" => "tonic streaming",
        "nats" => "NATS",
        "valkyrie" => "an echo",
        other => other,
    }
}

/// Every goal.
pub(super) fn judge(measured: &Measured) -> Vec<Judged> {
    let mut judge = Judge {
        measured,
        rows: Vec::new(),
    };
    requests(&mut judge);
    throughput(&mut judge);
    connections(&mut judge);
    beside(&mut judge);
    jobs(&mut judge);
    judge.rows
}

fn requests(judge: &mut Judge<'_>) {
    let (apart, same, busy) = ("echo-apart", "echo-same", "echo-64");
    let p50 = |row, peer| (row, peer, "p50_us");
    let what = "64 B echo, two processors, p50";
    judge.at_most(what, p50(apart, OURS), p50(apart, "quinn"), 1.10, "us");
    let what = "64 B echo, two processors, p99";
    let p99 = |peer| (apart, peer, "p99_us");
    judge.at_most(what, p99(OURS), p99("quinn"), 1.25, "us");
    let what = "64 B echo, one processor, p50";
    for (peer, times) in [("quinn", 1.25), ("tonic", 0.75), ("nats", 0.65)] {
        judge.at_most(what, p50(same, OURS), p50(same, peer), times, "us");
    }
    judge.beside(what, p50(same, OURS), p50(same, "tcp"), false, "us");
    judge.beside(
        what,
        p50(same, OURS),
        p50(same, "tonic-stream"),
        false,
        "us",
    );
    let what = "requests a second, 64 outstanding";
    for (peer, times) in [("quinn", 0.85), ("quinn-long", 0.85), ("tonic", 4.0)] {
        judge.at_least(
            what,
            (busy, OURS, "per_s"),
            (busy, peer, "per_s"),
            times,
            "/s",
        );
    }
}

fn throughput(judge: &mut Judge<'_>) {
    let what = "bulk, one stream";
    let rate = |peer| ("bulk", peer, "gbit_s");
    judge.at_least(what, rate(OURS), rate("quinn"), 0.95, "Gbit/s");
    judge.at_least(what, rate(OURS), rate("tonic"), 1.0, "Gbit/s");
    // Loopback favours TCP, which has no packets there: said instead of left out.
    judge.beside(what, rate(OURS), rate("tcp"), true, "Gbit/s");
    let what = "processor time for as many bytes, client";
    let cpu = |peer| ("bulk", peer, "client_cpu_s");
    judge.at_most(what, cpu(OURS), cpu("quinn"), 1.08, "s");
    let what = "processor time for as many bytes, server";
    let cpu = |peer| ("bulk", peer, "server_cpu_s");
    judge.at_most(what, cpu(OURS), cpu("quinn"), 1.08, "s");
    let what = "64 B messages, batched";
    let rate = |peer| ("messages", peer, "per_s");
    judge.at_least(what, rate(OURS), rate("quinn"), 0.7, "/s");
    judge.at_least(what, rate(OURS), rate("nats"), 2.0, "/s");
    judge.beside(what, rate(OURS), rate("tcp"), true, "/s");
}

fn connections(judge: &mut Judge<'_>) {
    let figure = |figure| ("handshake", OURS, figure);
    // A connection of raw quinn counts as up when one answer has come: the round trip of ours.
    let what = "mTLS handshake to HELLO_ACK, p50";
    let theirs = ("handshake", "quinn", "p50_us");
    judge.at_most(what, figure("p50_us"), theirs, 1.3, "us");
    let what = "mTLS handshake to HELLO_ACK, p99";
    judge.below(what, figure("p99_us"), 0.001, 10.0, "ms");
    let idle = |figure| ("idle", OURS, figure);
    let what = "server memory per idle connection";
    judge.below(what, idle("kb_per_connection"), 1.0, 48.0, "kB");
    let what = "live connections held";
    judge.above(what, idle("live"), 1.0, 20_000.0, "connections");
}

fn beside(judge: &mut Judge<'_>) {
    let near = |figure| ("control-near", OURS, figure);
    let what = "control beside saturating bulk, loopback, p99";
    judge.below(what, near("p99_us"), 0.001, 1.0, "ms");
    let what = "of that bulk is kept";
    judge.above(what, near("bulk_share"), 1.0, 0.85, "of it alone");
    let far = |figure| ("far", OURS, figure);
    let what = "control beside bulk, 100 Mbit/s and 50 ms, p99";
    judge.below(what, far("p99_us"), 0.001, 65.0, "ms");
    let what = "of that link is used";
    judge.above(what, far("bulk_gbit_s"), 1000.0, 85.0, "Mbit/s");
    let what = "the same with 1 % loss, p99";
    let p99 = |peer| ("far-loss", peer, "p99_us");
    judge.at_most(what, p99(OURS), p99("quinn"), 1.1, "us");
    judge.at_most(what, p99(OURS), p99("tcp"), 0.35, "us");
    let what = "control beside 100 bulk streams, p99";
    judge.below(what, ("far-hundred", OURS, "p99_us"), 0.001, 100.0, "ms");
    let what = "TCP fallback, control beside bulk, no loss, p99";
    let p99 = |peer| ("far", peer, "p99_us");
    judge.at_most(what, p99(TCP), p99("tcp"), 0.5, "us");
}

fn jobs(judge: &mut Judge<'_>) {
    let what = "log lines of 128 B, durable";
    judge.above(what, ("logs-most", OURS, "per_s"), 1e-6, 1.0, "M/s");
    let what = "100,000 log lines a second, until durable, p99";
    judge.below(what, ("logs-rate", OURS, "p99_us"), 0.001, 2.0, "ms");
    let what = "offer to acceptance, 1 agent, p99";
    let echo = ("echo-apart", OURS, "p99_us");
    judge.at_most(what, ("offers-1", OURS, "p99_us"), echo, 1.5, "us");
    let what = "offer to acceptance, 1,000 agents, 20,000 offers/s, p99";
    judge.below(what, ("offers-1000", OURS, "p99_us"), 0.001, 5.0, "ms");
    // Handshake of one round trip, two more, and 50 ms, on a path of 50 ms.
    let what = "first answer after a cut of 5 s";
    judge.below(what, ("reconnect", OURS, "again_ms"), 1.0, 200.0, "ms");
    let what = "the same over TCP";
    judge.below(what, ("reconnect", TCP, "again_ms"), 1.0, 200.0, "ms");
    let what = "seeds of kills and reconnects, nothing lost or doubled";
    judge.above(what, ("kills", OURS, "seeds"), 1.0, 10_000.0, "seeds");
}
