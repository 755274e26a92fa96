//! The machine against the table of a stream in `docs/protocol.md`, row by row.
//! Must not know what a row says: state and event are made here, the rest is read from the table.

use std::collections::BTreeSet;

use bytes::BytesMut;

use super::super::frame::{self, MAX_DATA, MuxFrame, Piece};
use super::*;

const DOCUMENT: &str = include_str!("../../../../../docs/protocol.md");
const HEADER: &str = "| stream | event | does | next |";
const WINDOWS: Windows = Windows {
    stream: 64 * 1024,
    connection: 256 * 1024,
    streams: 4,
};
/// Bytes that are unread in every state of the direction in: more than half of its window.
const UNREAD: usize = 40 * 1024;
/// The stream that the peer opened.
const THEIRS: u64 = 0;
/// What the application stops and breaks off with, and what the peer does.
const OURS: Code = Code::Cancelled;
const PEERS: Code = Code::NotFound;

const STATES: [&str; 14] = [
    "none",
    "out open",
    "out waiting",
    "out ending",
    "out ended",
    "out reset",
    "out over",
    "in open",
    "in stopped",
    "in ended",
    "in reset",
    "both done",
    "over",
    "closed",
];

/// What the peer can send on a stream that is open out of here, and on one that is open to here.
const OUT: [&str; 4] = [
    "STOP",
    "TAKEN",
    "more STREAM_CREDIT",
    "no more STREAM_CREDIT",
];
const IN: [&str; 3] = ["DATA within credit", "END", "RESET"];

/// What else is driven.
const OTHERS: [&str; 15] = [
    "the application opens within STREAMS",
    "the application opens over STREAMS",
    "the application writes within credit",
    "the application writes beyond credit",
    "the application ends",
    "the application breaks off",
    "the application stops",
    "the application reads half of the window",
    "the application lets go of both halves",
    "OPEN in order within the limit",
    "OPEN out of order",
    "OPEN of the receiver's own number",
    "OPEN over the limit",
    "OPEN of its number again",
    "DATA beyond credit",
];

/// One machine in some state.
struct Case {
    machine: Machine,
    stream: u64,
    /// Whether what it received last broke the rules.
    refused: bool,
}

impl Case {
    /// The accepting side, which may send a lot on the link though little on each stream.
    fn new() -> Self {
        let mut case = Self {
            machine: Machine::new(Side::Accepting, WINDOWS),
            stream: THEIRS,
            refused: false,
        };
        case.take(&MuxFrame::Credit { limit: 1 << 20 });
        case.sent();
        case
    }

    fn open() -> Self {
        let mut case = Self::new();
        case.take(&MuxFrame::Open { stream: THEIRS });
        assert_eq!(case.machine.accept(), Some(THEIRS));
        case.data(UNREAD);
        assert_eq!(case.sent(), []);
        case
    }

    fn with(mut self, events: &[&str]) -> Self {
        for event in events {
            self.act(event);
            assert!(!self.refused, "{event}");
            self.sent();
        }
        self
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.refused = self.machine.receive(bytes).is_err();
    }

    fn take(&mut self, frame: &MuxFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.receive(&bytes);
    }

    fn data(&mut self, mut length: usize) {
        while length > 0 {
            assert!(!self.refused, "before the last frame");
            let part = length.min(MAX_DATA);
            let mut bytes = Vec::new();
            frame::data(self.stream, part, &mut bytes);
            bytes.resize(bytes.len() + part, 7);
            self.receive(&bytes);
            length -= part;
        }
    }

    fn write(&mut self, length: u64) {
        let bytes = Bytes::from(vec![7; usize::try_from(length).unwrap()]);
        let written = self
            .machine
            .write(self.stream, &mut VecDeque::from([bytes]));
        assert_eq!(written, Ok(true));
    }

    /// The frames that it has to send, with the code of each that has one.
    fn sent(&mut self) -> Vec<(&'static str, Option<u64>)> {
        let mut bytes = BytesMut::new();
        while {
            let before = bytes.len();
            self.machine.transmit(&mut bytes, before + 16 * 1024);
            bytes.len() > before
        } {}
        let (mut rest, mut decoder, mut sent) = (&bytes[..], MuxDecoder::new(), Vec::new());
        while let Some(piece) = decoder.next(&mut rest).unwrap() {
            sent.push(match piece {
                Piece::Data { .. } => ("DATA", None),
                Piece::Frame(frame) => named(&frame),
            });
        }
        sent
    }

    fn act(&mut self, event: &str) {
        let stream = self.stream;
        let machine = &mut self.machine;
        match event {
            "the application opens within STREAMS" => self.stream = machine.open().unwrap(),
            "the application opens over STREAMS" => {
                let opened = machine.open().unwrap();
                self.sent();
                assert_eq!(self.machine.open(), None);
                self.stream = opened + 2;
            }
            "the application writes within credit" => self.write(10),
            "the application writes beyond credit" => self.write(FIRST_WINDOW + 10),
            "the application ends" => machine.finish(stream),
            "the application breaks off" => machine.reset(stream, OURS),
            "the application stops" => machine.stop(stream, OURS),
            "the application reads half of the window" => {
                let read = machine.read(stream, UNREAD).unwrap();
                assert_eq!(read.flatten().map(|bytes| bytes.len()), Some(UNREAD));
            }
            "the application lets go of both halves" => {
                machine.release_send(stream);
                machine.release_recv(stream);
            }
            _ => self.peer(event),
        }
    }

    fn peer(&mut self, event: &str) {
        let stream = self.stream;
        let code = u64::from(PEERS.number());
        match event {
            "OPEN in order within the limit" | "OPEN of its number again" => {
                self.take(&MuxFrame::Open { stream });
            }
            "OPEN out of order" => self.take(&MuxFrame::Open { stream: 2 }),
            "OPEN of the receiver's own number" => self.take(&MuxFrame::Open { stream: 1 }),
            "OPEN over the limit" => {
                for index in 0..=WINDOWS.streams {
                    assert!(!self.refused, "stream {index}");
                    self.take(&MuxFrame::Open { stream: index * 2 });
                }
            }
            "DATA within credit" => self.data(1),
            "DATA beyond credit" => {
                let left = usize::try_from(WINDOWS.stream).unwrap() - UNREAD;
                self.data(left);
                assert!(!self.refused, "all of the credit");
                self.data(1);
            }
            "END" => self.take(&MuxFrame::End { stream }),
            "RESET" => self.take(&MuxFrame::Reset { stream, code }),
            "STOP" => self.take(&MuxFrame::Stop { stream, code }),
            "TAKEN" => self.take(&MuxFrame::Taken { stream }),
            "more STREAM_CREDIT" => self.take(&MuxFrame::StreamCredit {
                stream,
                limit: 2 * FIRST_WINDOW,
            }),
            "more WINDOW" => self.take(&MuxFrame::Window {
                window: 2 * FIRST_WINDOW,
            }),
            "no more STREAM_CREDIT" => self.take(&MuxFrame::StreamCredit {
                stream,
                limit: FIRST_WINDOW,
            }),
            other => panic!("the event {other:?} is not driven"),
        }
    }

    /// The states that it is in. Finds out by going on, so nothing may be asked of it afterwards.
    fn states(&mut self) -> BTreeSet<&'static str> {
        if self.refused {
            return BTreeSet::from(["closed"]);
        }
        let Some(state) = self.machine.streams.get(&self.stream) else {
            let of_peer = self.stream % 2 == THEIRS;
            let machine = &self.machine;
            let next = if of_peer {
                machine.next_remote
            } else {
                machine.next_local
            };
            let known = self.stream / 2 < next;
            return BTreeSet::from([if known { "over" } else { "none" }]);
        };
        let (reset, taken) = (state.send.is_reset(), state.send.taken);
        let inward = match (state.recv.reset, state.recv.ended) {
            (Some(_), _) => "in reset",
            (None, true) => "in ended",
            (None, false) => {
                self.act("the application stops");
                let tells = self.sent().iter().any(|(name, _)| *name == "STOP");
                if tells { "in open" } else { "in stopped" }
            }
        };
        let outward = match (reset, taken) {
            (true, _) => "out reset",
            (false, true) => "out over",
            (false, false) => self.unfinished(),
        };
        BTreeSet::from([outward, inward])
    }

    fn unfinished(&mut self) -> &'static str {
        self.act("more STREAM_CREDIT");
        let names: Vec<_> = self.sent().iter().map(|(name, _)| *name).collect();
        self.act("the application breaks off");
        let may_break_off = !self.sent().is_empty();
        match (&names[..], may_break_off) {
            ([], true) => "out open",
            ([], false) => "out ended",
            (["DATA"], true) => "out waiting",
            (["DATA", "END"], false) => "out ending",
            other => panic!("no state: {other:?}"),
        }
    }
}

fn named(frame: &MuxFrame) -> (&'static str, Option<u64>) {
    match frame {
        MuxFrame::Open { .. } => ("OPEN", None),
        MuxFrame::End { .. } => ("END", None),
        MuxFrame::Reset { code, .. } => ("RESET", Some(*code)),
        MuxFrame::Stop { code, .. } => ("STOP", Some(*code)),
        MuxFrame::Taken { .. } => ("TAKEN", None),
        MuxFrame::StreamCredit { .. } => ("STREAM_CREDIT", None),
        MuxFrame::Credit { .. } => ("CREDIT", None),
        MuxFrame::Streams { .. } => ("STREAMS", None),
        MuxFrame::Window { .. } => ("WINDOW", None),
        other => panic!("{other:?} is not of a stream"),
    }
}

/// Machines in this state, in each way in which one gets there.
fn cases(state: &str) -> Vec<Case> {
    let (write, end) = (
        "the application writes beyond credit",
        "the application ends",
    );
    let (break_off, stop) = ("the application breaks off", "the application stops");
    let ways: &[&[&str]] = match state {
        "none" => return vec![Case::new()],
        "out open" | "in open" => &[&[]],
        "out waiting" => &[&[write]],
        "out ending" => &[&[write, end]],
        "out ended" => &[&[end]],
        "out reset" => &[&[break_off], &[write, end, break_off]],
        "out over" => &[&[end, "TAKEN"]],
        "in stopped" => &[&[stop]],
        "in ended" => &[&["END"]],
        "in reset" => &[&["RESET"], &[stop, "RESET"]],
        "both done" | "over" => &[
            &[end, "TAKEN", "END"],
            &[end, "TAKEN", "RESET"],
            &[break_off, "END"],
            &["STOP", stop, "RESET"],
        ],
        other => panic!("the state {other:?} is not made"),
    };
    let made = ways.iter().map(|way| Case::open().with(way));
    if state == "over" {
        let lets_go = ["the application lets go of both halves"];
        return made.map(|case| case.with(&lets_go)).collect();
    }
    made.collect()
}

/// State, event, what is done, and the next states; an event each.
fn rows() -> Vec<[&'static str; 4]> {
    let mut lines = DOCUMENT.lines().skip_while(|line| *line != HEADER);
    assert!(lines.next().is_some(), "no table {HEADER:?}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [state, events, does, next] = cells[..] else {
            panic!("not four cells: {row}")
        };
        let events = events.split(", ");
        events.map(move |event| [state, event, does, next])
    })
    .collect()
}

/// The row, and for one of more credit the same with a frame that gives it to every stream.
fn with_window(row: [&'static str; 4]) -> Vec<[&'static str; 4]> {
    let [state, event, does, next] = row;
    if state.starts_with("out ") && event == "more STREAM_CREDIT" {
        return vec![row, [state, "more WINDOW", does, next]];
    }
    vec![row]
}

/// What the cell says of the peer's and the application's view, against the machine.
fn check_view(case: &mut Case, does: &str, row: &str) {
    let (stream, machine) = (case.stream, &mut case.machine);
    let broken = StreamError::Reset(PEERS);
    if does.contains("the writer is told") {
        assert_eq!(machine.stopped(stream), Some(Err(broken)), "{row}");
    }
    if does.contains("arrived") {
        assert_eq!(machine.stopped(stream), Some(Ok(())), "{row}");
    }
    if does.contains("the reader is told") {
        assert_eq!(machine.read(stream, 1), Err(broken), "{row}");
    }
    if does.contains("drops what is unread") {
        assert_eq!(machine.received, machine.consumed, "{row}");
    }
    if does.contains("drops what waits") {
        let waits = machine.streams[&stream].send.sendable(usize::MAX);
        assert_eq!(waits, 0, "{row}");
    }
    if does.contains("accepted") {
        assert_eq!(machine.accept(), Some(stream), "{row}");
    }
}

#[test]
fn every_row_of_the_table_of_a_stream_is_what_the_machine_does() {
    for [state, event, does, next] in rows().into_iter().flat_map(with_window) {
        let row = format!("| {state} | {event} |");
        for mut case in cases(state) {
            let useless = case.machine.useless;
            case.act(event);
            let is_useless = case.machine.useless > useless;
            assert_eq!(is_useless, does.contains("*useless*"), "{row}");
            assert_eq!(case.refused, does == "closes with 2", "{row}");
            let sent = if case.refused { vec![] } else { case.sent() };
            let words = does.split(|c: char| !c.is_ascii_uppercase() && c != '_');
            let told: BTreeSet<_> = words.filter(|word| word.len() > 1).collect();
            let names = sent.iter().map(|(name, _)| *name);
            assert_eq!(names.collect::<BTreeSet<_>>(), told, "{row}");
            for code in sent.iter().filter_map(|(_, code)| *code) {
                let own = does.contains("with its code");
                assert_ne!(own, does.contains("with the code of it"), "{row}");
                let expected = if own { OURS } else { PEERS };
                assert_eq!(code, u64::from(expected.number()), "{row}");
            }
            check_view(&mut case, does, &row);
            let states = case.states();
            let missing: Vec<_> = next.split(", ").filter(|s| !states.contains(s)).collect();
            assert!(missing.is_empty(), "{row}: is {states:?}, not {missing:?}");
        }
    }
}

#[test]
fn the_table_of_a_stream_has_every_state_and_in_each_every_frame_that_the_peer_may_send() {
    let rows = rows();
    let pairs: BTreeSet<_> = rows.iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(pairs.len(), rows.len(), "a state and event twice");
    let events: BTreeSet<_> = rows.iter().map(|row| row[1]).collect();
    let driven = OUT.into_iter().chain(IN).chain(OTHERS);
    assert_eq!(events, driven.collect());
    let next = rows.iter().flat_map(|row| row[3].split(", "));
    let named: BTreeSet<_> = rows.iter().map(|row| row[0]).chain(next).collect();
    assert_eq!(named, BTreeSet::from(STATES));
    for state in STATES {
        let events: Vec<_> = match state {
            _ if state.starts_with("out ") => OUT.to_vec(),
            _ if state.starts_with("in ") => IN.to_vec(),
            "none" | "over" => ["STOP", "TAKEN", "more STREAM_CREDIT"]
                .into_iter()
                .chain(IN)
                .collect(),
            _ => Vec::new(),
        };
        for event in events {
            assert!(pairs.contains(&(state, event)), "no row {state}, {event}");
        }
    }
}

#[test]
fn every_state_that_is_made_is_the_one_that_is_seen() {
    for state in STATES {
        if state == "both done" || state == "closed" {
            continue;
        }
        for mut case in cases(state) {
            let states = case.states();
            assert!(states.contains(state), "{state}: {states:?}");
        }
    }
}

#[test]
fn credit_of_the_link_lets_go_what_waits_for_it() {
    let mut case = Case::open().with(&["more STREAM_CREDIT"]);
    // A class that leaves nothing of the credit to others.
    case.machine.set_priority(THEIRS, 100);
    let limit = case.machine.sent() + 10;
    case.machine.send_limit = limit;
    case.write(20);
    case.act("the application ends");
    assert_eq!(case.sent(), [("DATA", None)]);
    case.take(&MuxFrame::Credit { limit });
    assert_eq!(case.sent(), [], "no more than before");
    case.take(&MuxFrame::Credit { limit: limit + 10 });
    assert_eq!(case.sent(), [("DATA", None), ("END", None)]);
}
