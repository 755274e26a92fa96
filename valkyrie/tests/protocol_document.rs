//! `docs/protocol.md` against the code: its tables must say what the code does.
//! Must not check prose.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use valkyrie::error::Code;
use valkyrie::limits::{Limits, Rate};
use valkyrie::metrics::Refusal;
use valkyrie::session::handshake::VERSIONS;
use valkyrie::wire::{Class, CloseCode, FrameType};

fn document() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    std::fs::read_to_string(path).unwrap()
}

/// The rows of the table with this header row, each cell by itself.
fn rows(header: &str) -> Vec<Vec<String>> {
    let text = document();
    let mut lines = text.lines().skip_while(|line| !line.starts_with(header));
    assert!(lines.next().is_some(), "no table {header:?}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// The first two columns of the table with this header row.
fn table(header: &str) -> Vec<(String, String)> {
    let rows = rows(header).into_iter();
    rows.map(|cells| (cells[0].clone(), cells[1].clone()))
        .collect()
}

fn pairs<T: ToString>(known: impl IntoIterator<Item = (T, String)>) -> Vec<(String, String)> {
    known
        .into_iter()
        .map(|(n, name)| (n.to_string(), name))
        .collect()
}

#[test]
fn the_table_of_frame_types_is_that_of_the_code() {
    let known = FrameType::KNOWN.map(|kind| {
        let number = format!("{:#04x}", kind.number());
        (number, kind.name().to_owned())
    });
    assert_eq!(table("| type | name |"), pairs(known));
}

#[test]
fn the_tables_of_codes_and_classes_are_those_of_the_code() {
    let codes = Code::KNOWN.map(|code| (code.number(), format!("{code:?}")));
    assert_eq!(table("| code | name |"), pairs(codes));
    let closes = CloseCode::KNOWN.map(|code| (code.number(), format!("{code:?}")));
    assert_eq!(table("| close code | name |"), pairs(closes));
    let classes = Class::ALL.map(|class| (class.number(), format!("{class:?}")));
    assert_eq!(table("| class | name |"), pairs(classes));
    for class in Class::ALL {
        let ends = format!("| {} |", class.priority());
        let row = format!("| {} | {class:?} |", class.number());
        let text = document();
        let line = text.lines().find(|line| line.starts_with(&row)).unwrap();
        assert!(line.ends_with(&ends), "{line}");
    }
}

#[test]
fn numbers_come_back_from_the_wire_and_are_used_once() {
    for (index, kind) in FrameType::KNOWN.into_iter().enumerate() {
        assert_eq!(FrameType::from_number(kind.number()), kind);
        let later = &FrameType::KNOWN[index + 1..];
        assert!(later.iter().all(|other| other.number() != kind.number()));
    }
    for code in Code::KNOWN {
        assert_eq!(Code::from_number(code.number()), code);
    }
    for code in CloseCode::KNOWN {
        assert_eq!(CloseCode::from_number(code.number()), code);
    }
    for class in Class::ALL {
        assert_eq!(Class::from_number(class.number()), class);
    }
}

#[test]
fn the_versions_named_are_those_spoken() {
    assert_eq!(VERSIONS, 1..=1);
    assert!(document().contains("Today only 1."));
}

fn bytes(size: usize) -> String {
    match size {
        size if size % (1024 * 1024) == 0 => format!("{} MiB", size / 1024 / 1024),
        size if size % 1024 == 0 => format!("{} KiB", size / 1024),
        size => format!("{size} B"),
    }
}

fn time(time: Duration) -> String {
    match time.as_millis() {
        ms if ms < 1000 => format!("{ms} ms"),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        _ => format!("{} s", time.as_secs_f64()),
    }
}

fn rate(rate: Rate) -> String {
    format!("{}/s, burst {}", rate.per_sec, rate.burst)
}

#[test]
fn the_table_of_limits_has_every_limit_with_its_default() {
    // No `..`: a new limit must be added here and to the table.
    let Limits {
        control_frame,
        data_frame,
        call_body,
        body_budget,
        streams,
        streams_most,
        idle,
        keep_alive,
        suspect,
        probe,
        resume_window,
        hello,
        anonymous_frame,
        anonymous_streams,
        anonymous_lifetime,
        handshakes,
        sessions,
        connections,
        address_rate,
        control_rate,
        reset_rate,
        empty_frames,
        frame_floor,
        notices,
        waiting_notices,
        stall,
        backoff,
    } = Limits::default();
    let expected = [
        ("control_frame", bytes(control_frame)),
        ("data_frame", bytes(data_frame)),
        ("call_body", bytes(call_body)),
        ("body_budget", bytes(body_budget)),
        ("streams", streams.to_string()),
        ("streams_most", streams_most.to_string()),
        ("idle", time(idle)),
        ("keep_alive", time(keep_alive)),
        ("suspect", time(suspect)),
        ("probe", time(probe)),
        ("resume_window", time(resume_window)),
        ("hello", time(hello)),
        ("anonymous_frame", bytes(anonymous_frame)),
        ("anonymous_streams", anonymous_streams.to_string()),
        ("anonymous_lifetime", time(anonymous_lifetime)),
        ("handshakes", handshakes.to_string()),
        ("sessions", sessions.to_string()),
        ("connections", connections.to_string()),
        ("address_rate", rate(address_rate)),
        ("control_rate", rate(control_rate)),
        ("reset_rate", rate(reset_rate)),
        ("empty_frames", empty_frames.to_string()),
        (
            "frame_floor",
            format!("{} in {}", bytes(frame_floor.0), time(frame_floor.1)),
        ),
        ("notices", bytes(notices)),
        ("waiting_notices", waiting_notices.to_string()),
        ("stall", time(stall)),
        (
            "backoff",
            format!("{} to {}", time(backoff.0), time(backoff.1)),
        ),
    ];
    assert_eq!(
        table("| limit | default |"),
        pairs(expected.map(|(name, value)| (name, value)))
    );
}

/// The names in a cell, which are all there is in it; none when it is `-`.
fn names(cell: &str) -> Vec<String> {
    if cell == "-" {
        return Vec::new();
    }
    let quoted = |name: &str| {
        let bare = name
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix('`'));
        bare.unwrap_or_else(|| panic!("{name:?} in {cell:?} is no name"))
            .to_owned()
    };
    cell.split(", ").map(quoted).collect()
}

/// The texts of all files of Rust below this.
fn sources(below: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

/// The texts of the tests of this name: those that are marked as one, and those that a macro of
/// `conformance` runs, which lists them.
fn tests_named<'a>(sources: &'a [String], name: &str) -> Vec<&'a str> {
    let start = format!("fn {name}(");
    let listed = format!("\n    {name}\n");
    let is_listed = sources.iter().any(|text| text.contains(&listed));
    let found = sources.iter().filter_map(|text| {
        let (before, rest) = text.split_once(&start)?;
        let before = before.trim_end_matches("async ").trim_end();
        let is_test = before.ends_with("test]") || is_listed;
        let body = rest.split_once("\n}\n").map_or(rest, |(body, _)| body);
        is_test.then_some(body)
    });
    found.collect()
}

/// Whether this text names this reason, and not only one whose name is longer.
fn looks_at(text: &str, reason: Refusal) -> bool {
    let name = format!("Refusal::{reason:?}");
    let mut after = text.split(&name).skip(1);
    after.any(|rest| !rest.starts_with(char::is_alphanumeric))
}

/// What is counted as which reasons, which tests attack it, and whether there need be none.
fn attacks() -> Vec<(Vec<String>, Vec<String>, bool)> {
    // What only paces the own side: no peer can go over it.
    let own = ["keep_alive", "probe", "backoff"];
    let limits = rows("| limit | default |").into_iter();
    let limits = limits.map(|row| {
        let paces = own.contains(&row[0].as_str());
        (names(&row[3]), names(&row[4]), paces)
    });
    let others = rows("| counted as | what | attacked by |").into_iter();
    let others = others.map(|row| (names(&row[0]), names(&row[2]), false));
    limits.chain(others).collect()
}

#[test]
fn every_limit_and_every_refusal_is_attacked_by_a_test_that_exists_and_sees_it_counted() {
    let mut texts = Vec::new();
    for below in ["tests", "src"] {
        let below = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
        sources(&below, &mut texts);
    }
    let mut counted = HashSet::new();
    for (labels, tests, may_be_none) in attacks() {
        assert!(may_be_none || !tests.is_empty(), "{labels:?}: no test");
        let mut bodies = Vec::new();
        for test in &tests {
            let found = tests_named(&texts, test);
            assert!(!found.is_empty(), "there is no test {test}");
            bodies.extend(found);
        }
        for label in labels {
            let mut known = Refusal::ALL.into_iter();
            let reason = known.find(|reason| reason.label() == label);
            let reason = reason.unwrap_or_else(|| panic!("{label:?} is no label"));
            let is_seen = bodies.iter().any(|body| looks_at(body, reason));
            assert!(is_seen, "none of {tests:?} looks at {label}");
            counted.insert(label);
        }
    }
    let labels = Refusal::ALL.map(Refusal::label).into_iter();
    let missing: Vec<_> = labels.filter(|label| !counted.contains(*label)).collect();
    assert!(missing.is_empty(), "in neither table: {missing:?}");
}
