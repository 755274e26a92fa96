//! Two machines against each other, and one against hostile bytes.
//! Must not need a runtime: bytes are carried by hand.

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::frame::{self, MAX_DATA, MuxFrame};
use super::incoming::MAX_USELESS;
use super::*;

const WINDOWS: Windows = Windows {
    stream: 64 * 1024,
    connection: 256 * 1024,
    streams: 8,
};

struct Pair {
    dialer: Machine,
    server: Machine,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            dialer: Machine::new(Side::Dialing, WINDOWS),
            server: Machine::new(Side::Accepting, WINDOWS),
        };
        pair.run();
        pair
    }

    /// Carries everything to and fro until nobody has anything to send.
    fn run(&mut self) {
        loop {
            let there = carry(&mut self.dialer, &mut self.server);
            let back = carry(&mut self.server, &mut self.dialer);
            if there + back == 0 {
                return;
            }
        }
    }
}

fn carry(from: &mut Machine, to: &mut Machine) -> usize {
    let mut out = BytesMut::new();
    from.transmit(&mut out, 16 * 1024);
    to.receive(&out).unwrap();
    out.len()
}

fn write(machine: &mut Machine, stream: u64, bytes: Vec<u8>) -> usize {
    let length = bytes.len();
    let mut chunks = VecDeque::from([Bytes::from(bytes)]);
    while !chunks.is_empty() && machine.write(stream, &mut chunks).unwrap() {}
    length - chunks.iter().map(Bytes::len).sum::<usize>()
}

fn read_all(machine: &mut Machine, stream: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(Some(Some(bytes))) = machine.read(stream, 10_000) {
        all.extend_from_slice(&bytes);
    }
    all
}

#[test]
fn a_stream_carries_bytes_both_ways_and_is_forgotten_at_its_end() {
    let mut pair = Pair::new();
    let stream = pair.dialer.open().unwrap();
    write(&mut pair.dialer, stream, b"there".to_vec());
    pair.dialer.finish(stream);
    pair.run();
    assert_eq!(pair.server.accept(), Some(stream));
    assert_eq!(read_all(&mut pair.server, stream), b"there");
    assert_eq!(pair.server.read(stream, 1), Ok(Some(None)));
    assert_eq!(pair.dialer.stopped(stream), Some(Ok(())));
    write(&mut pair.server, stream, b"back".to_vec());
    pair.server.finish(stream);
    pair.run();
    assert_eq!(read_all(&mut pair.dialer, stream), b"back");
    for machine in [&mut pair.dialer, &mut pair.server] {
        machine.release_send(stream);
        machine.release_recv(stream);
        assert!(machine.streams.is_empty());
    }
}

#[test]
fn a_sender_stops_at_the_window_and_goes_on_when_it_is_read() {
    let mut pair = Pair::new();
    let stream = pair.dialer.open().unwrap();
    let mut sent = 0;
    loop {
        let taken = write(&mut pair.dialer, stream, vec![7; 50_000]);
        pair.run();
        sent += taken;
        if taken == 0 {
            break;
        }
    }
    let held = pair.server.streams[&stream].recv.limit();
    assert_eq!(held, WINDOWS.stream);
    assert!(sent as u64 <= WINDOWS.stream + stream::SEND_BUFFER as u64);
    pair.server.accept();
    let mut read = 0;
    while read < sent {
        read += read_all(&mut pair.server, stream).len();
        pair.run();
    }
    assert!(write(&mut pair.dialer, stream, vec![7; 50_000]) > 0);
}

#[test]
fn stalled_bulk_leaves_credit_for_control() {
    let mut pair = Pair::new();
    let bulk: Vec<u64> = (0..6).map(|_| pair.dialer.open().unwrap()).collect();
    for stream in &bulk {
        pair.dialer.set_priority(*stream, -10);
        for _ in 0..4 {
            write(&mut pair.dialer, *stream, vec![1; 64 * 1024]);
            pair.run();
        }
    }
    let control = pair.dialer.open().unwrap();
    pair.dialer.set_priority(control, 1000);
    write(&mut pair.dialer, control, b"cancel".to_vec());
    pair.run();
    assert_eq!(read_all(&mut pair.server, control), b"cancel");
    assert!(pair.server.received <= WINDOWS.connection);
}

#[test]
fn control_overtakes_bulk_that_was_written_before_it() {
    let mut pair = Pair::new();
    let (bulk, control) = (pair.dialer.open().unwrap(), pair.dialer.open().unwrap());
    pair.dialer.set_priority(bulk, -10);
    pair.dialer.set_priority(control, 1000);
    pair.run();
    write(&mut pair.dialer, bulk, vec![1; 60_000]);
    write(&mut pair.dialer, control, b"ping".to_vec());
    carry(&mut pair.dialer, &mut pair.server);
    assert_eq!(read_all(&mut pair.server, control), b"ping");
    assert!(read_all(&mut pair.server, bulk).len() < 17_000);
}

#[test]
fn no_more_streams_than_allowed_until_one_is_over() {
    let mut pair = Pair::new();
    let opened: Vec<u64> = std::iter::from_fn(|| pair.dialer.open()).collect();
    assert_eq!(opened, [0, 2, 4, 6, 8, 10, 12, 14]);
    pair.run();
    for stream in &opened[..2] {
        assert_eq!(pair.server.accept(), Some(*stream));
        pair.dialer.reset(*stream, Code::Cancelled);
        pair.dialer.stop(*stream, Code::Cancelled);
        pair.run();
        for machine in [&mut pair.dialer, &mut pair.server] {
            machine.release_send(*stream);
            machine.release_recv(*stream);
        }
    }
    pair.run();
    assert_eq!(pair.dialer.open(), Some(16));
    assert_eq!(pair.dialer.open(), Some(18));
    assert_eq!(pair.dialer.open(), None);
}

#[test]
fn a_reset_and_a_stop_reach_the_other_side_with_their_codes() {
    let mut pair = Pair::new();
    let stream = pair.dialer.open().unwrap();
    write(&mut pair.dialer, stream, b"half".to_vec());
    pair.run();
    pair.dialer.reset(stream, Code::NotFound);
    pair.dialer.stop(stream, Code::Internal);
    pair.run();
    let broken = pair.server.read(stream, 10);
    assert_eq!(broken, Err(StreamError::Reset(Code::NotFound)));
    let mut chunks = VecDeque::from([Bytes::from_static(b"late")]);
    let stopped = pair.server.write(stream, &mut chunks);
    assert_eq!(stopped, Err(StreamError::Reset(Code::Internal)));
    let stopped = pair.server.stopped(stream);
    assert_eq!(stopped, Some(Err(StreamError::Reset(Code::Internal))));
    assert_eq!(
        pair.server.consumed, 4,
        "the credit of thrown bytes is back"
    );
}

#[test]
fn a_close_is_the_last_thing_sent() {
    let mut pair = Pair::new();
    let stream = pair.dialer.open().unwrap();
    write(&mut pair.dialer, stream, vec![1; 1000]);
    pair.dialer.close(CloseCode::Replaced, "newer");
    pair.dialer.close(CloseCode::Protocol, "not this one");
    let mut out = BytesMut::new();
    pair.dialer.transmit(&mut out, 16 * 1024);
    pair.dialer.transmit(&mut out, 16 * 1024);
    pair.server.receive(&out).unwrap();
    let closed = Event::Closed(CloseCode::Replaced, "newer".to_owned());
    assert_eq!(pair.server.events().last(), Some(&closed));
    assert_eq!(pair.server.accept(), None);
}

#[test]
fn a_ticket_goes_over_and_only_the_first_frame_may_join() {
    let mut pair = Pair::new();
    let ticket = Ticket([9; 32]);
    pair.server.door(ticket);
    pair.dialer.events();
    pair.run();
    assert_eq!(pair.dialer.events(), [Event::Door(ticket)]);
    let mut further = Machine::new(Side::Dialing, WINDOWS);
    further.join(ticket);
    let mut fresh = Machine::new(Side::Accepting, WINDOWS);
    carry(&mut further, &mut fresh);
    assert_eq!(fresh.events()[0], Event::Join(ticket));
    fresh.joined();
    carry(&mut fresh, &mut further);
    assert_eq!(further.events()[0], Event::Joined);
    let mut late = Vec::new();
    MuxFrame::Join { ticket }.encode(&mut late);
    assert_eq!(pair.server.receive(&late), Err(MuxError::Place));
    assert_eq!(further.receive(&late), Err(MuxError::Place));
}

fn bytes_of(frames: &[MuxFrame]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out
}

#[test]
fn frames_that_break_the_rules_are_refused() {
    use MuxFrame::*;
    let too_much = {
        let mut out = bytes_of(&[Open { stream: 0 }]);
        for _ in 0..5 {
            frame::data(0, MAX_DATA, &mut out);
            out.resize(out.len() + MAX_DATA, 1);
        }
        out
    };
    let after_end = {
        let mut out = bytes_of(&[Open { stream: 0 }, End { stream: 0 }]);
        frame::data(0, 1, &mut out);
        out.push(1);
        out
    };
    let many = (0..9).map(|index| Open { stream: index * 2 });
    let end_twice = [Open { stream: 0 }, End { stream: 0 }, End { stream: 0 }];
    let reset = Reset { stream: 0, code: 1 };
    let useless = vec![Credit { limit: 1 }; MAX_USELESS as usize + 1];
    let cases: Vec<(&str, Vec<u8>, MuxError)> = vec![
        ("over the window", too_much, MuxError::Credit),
        ("after the end", after_end, MuxError::AfterEnd),
        ("two ends", bytes_of(&end_twice), MuxError::AfterEnd),
        (
            "a reset after a reset",
            bytes_of(&[Open { stream: 0 }, reset.clone(), reset]),
            MuxError::AfterEnd,
        ),
        (
            "too many streams",
            bytes_of(&many.collect::<Vec<_>>()),
            MuxError::Stream,
        ),
        (
            "a gap in the streams",
            bytes_of(&[Open { stream: 2 }]),
            MuxError::Stream,
        ),
        (
            "a stream of our own",
            bytes_of(&[Open { stream: 1 }]),
            MuxError::Stream,
        ),
        (
            "an unknown stream",
            bytes_of(&[Stop { stream: 0, code: 1 }]),
            MuxError::Stream,
        ),
        ("nothing useful", bytes_of(&useless), MuxError::Useless),
    ];
    for (name, bytes, expected) in cases {
        let mut machine = Machine::new(Side::Accepting, WINDOWS);
        assert_eq!(machine.receive(&bytes), Err(expected), "{name}");
    }
}

/// What a fuzzer may do to a machine.
#[derive(Clone, Debug)]
enum Act {
    Open,
    Accept,
    Write(usize, usize),
    Read(usize),
    Finish(usize),
    Reset(usize),
    Stop(usize),
    Release(usize),
    Carry,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Open),
        Just(Act::Accept),
        (0..8usize, 1..40_000usize).prop_map(|(at, length)| Act::Write(at, length)),
        (0..8usize).prop_map(Act::Read),
        (0..8usize).prop_map(Act::Finish),
        (0..8usize).prop_map(Act::Reset),
        (0..8usize).prop_map(Act::Stop),
        (0..8usize).prop_map(Act::Release),
        Just(Act::Carry),
    ]
}

/// A side with the streams that it holds.
struct User {
    machine: Machine,
    held: Vec<u64>,
    over: Vec<u64>,
}

impl User {
    fn act(&mut self, act: &Act) {
        let machine = &mut self.machine;
        let at = |index: usize| self.held.get(index).copied();
        match act {
            Act::Open => self.held.extend(machine.open()),
            Act::Accept => self.held.extend(machine.accept()),
            Act::Write(index, length) => {
                if let Some(stream) = at(*index)
                    && !self.over.contains(&stream)
                {
                    let mut chunks = VecDeque::from([Bytes::from(vec![1; *length])]);
                    let _ = machine.write(stream, &mut chunks);
                }
            }
            Act::Read(index) => {
                if let Some(stream) = at(*index) {
                    let _ = machine.read(stream, 5000);
                }
            }
            Act::Finish(index) => {
                if let Some(stream) = at(*index) {
                    machine.finish(stream);
                    self.over.push(stream);
                }
            }
            Act::Reset(index) => {
                if let Some(stream) = at(*index) {
                    machine.reset(stream, Code::Cancelled);
                    self.over.push(stream);
                }
            }
            Act::Stop(index) => {
                if let Some(stream) = at(*index) {
                    machine.stop(stream, Code::Cancelled);
                }
            }
            Act::Release(index) => {
                if *index < self.held.len() {
                    let stream = self.held.remove(*index);
                    machine.reset(stream, Code::Cancelled);
                    machine.stop(stream, Code::Cancelled);
                    machine.release_send(stream);
                    machine.release_recv(stream);
                }
            }
            Act::Carry => {}
        }
        machine.events();
    }
}

proptest! {
    #[test]
    fn two_machines_never_break_each_others_rules_and_forget_everything(
        acts in prop::collection::vec((any::<bool>(), act()), 1..120),
    ) {
        let user = |side| User {
            machine: Machine::new(side, WINDOWS),
            held: Vec::new(),
            over: Vec::new(),
        };
        let mut dialer = user(Side::Dialing);
        let mut server = user(Side::Accepting);
        let run = |dialer: &mut User, server: &mut User| {
            for _ in 0..200 {
                carry(&mut dialer.machine, &mut server.machine);
                carry(&mut server.machine, &mut dialer.machine);
            }
        };
        for (dials, act) in &acts {
            let (one, other) = if *dials {
                (&mut dialer, &mut server)
            } else {
                (&mut server, &mut dialer)
            };
            one.act(act);
            if matches!(act, Act::Carry) {
                carry(&mut one.machine, &mut other.machine);
            }
            let unread = one.machine.received - one.machine.consumed;
            prop_assert!(unread <= WINDOWS.connection);
        }
        run(&mut dialer, &mut server);
        for user in [&mut dialer, &mut server] {
            while user.machine.accept().map(|stream| user.held.push(stream)).is_some() {}
            while !user.held.is_empty() {
                user.act(&Act::Release(0));
            }
        }
        run(&mut dialer, &mut server);
        for user in [&dialer, &server] {
            prop_assert!(user.machine.streams.is_empty(), "{:?}", user.machine.streams);
            prop_assert_eq!(user.machine.received, user.machine.consumed);
        }
    }

    #[test]
    fn no_bytes_whatever_make_a_machine_panic_or_hold_more_than_its_windows(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        position in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut honest = Machine::new(Side::Dialing, WINDOWS);
        let stream = honest.open().unwrap();
        let mut chunks: VecDeque<Bytes> = pieces.iter().cloned().map(Bytes::from).collect();
        let _ = honest.write(stream, &mut chunks);
        honest.finish(stream);
        let mut bytes = BytesMut::new();
        honest.transmit(&mut bytes, 16 * 1024);
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut machine = Machine::new(Side::Accepting, WINDOWS);
        let _ = machine.receive(&bytes);
        for piece in &pieces {
            let _ = machine.receive(piece);
        }
        let mut out = BytesMut::new();
        machine.transmit(&mut out, 16 * 1024);
        prop_assert!(machine.streams.len() as u64 <= WINDOWS.streams);
        prop_assert!(machine.dirty.len() <= machine.streams.len());
    }
}
