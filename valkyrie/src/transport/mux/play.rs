//! Two multiplexers that a fuzzer plays against each other, beside a model of their streams.
//! Must not be part of a build without the feature `fuzzing`.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::{Buf, Bytes, BytesMut};

use super::machine::{Machine, Side, Windows, stream::SEND_BUFFER};
use crate::error::Code;
use crate::transport::StreamError;
use crate::wire::CloseCode;

const WINDOWS: Windows = Windows {
    stream: 32 * 1024,
    connection: 96 * 1024,
    streams: 6,
};
const CODES: [Code; 4] = [
    Code::Cancelled,
    Code::NotFound,
    Code::Internal,
    Code::Unknown(77),
];
/// Most operations of one game.
const MOST: usize = 400;

/// Plays the operations that the bytes name, three bytes each, and returns a number that names
/// what they led to. With an odd first byte some operations damage bytes on their way; then the
/// machines may refuse, and only bounds are promised.
///
/// # Panics
/// When a promise is broken.
pub fn play(input: &[u8]) -> u64 {
    let (hostile, operations) = match input.split_first() {
        Some((first, rest)) => (first % 2 == 1, rest),
        None => return 0,
    };
    let mut game = Game::new(hostile);
    for operation in operations.chunks_exact(3).take(MOST) {
        game.act(operation[0], operation[1], operation[2]);
        game.bounds();
        if game.refused {
            return game.outcome();
        }
    }
    if !game.damaged {
        game.settle();
    }
    game.outcome()
}

/// One direction of a stream, as the model sees it.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    written: u64,
    read: u64,
    finished: bool,
    ended: bool,
    reset: Option<Code>,
    stopped: Option<Code>,
}

impl Way {
    fn writable(&self) -> bool {
        !self.finished && self.reset.is_none()
    }
}

/// A side: its machine, the streams it holds, and bytes under way from it.
struct User {
    machine: Machine,
    held: Vec<u64>,
    wire: BytesMut,
}

struct Game {
    users: [User; 2],
    /// By stream and by the side that writes.
    ways: BTreeMap<(u64, usize), Way>,
    hostile: bool,
    damaged: bool,
    refused: bool,
    opened: u32,
    resets: u32,
    ends: u32,
    full: u32,
}

/// The byte at a place of a way: each place of each way has its own.
fn byte(stream: u64, from: usize, at: u64) -> u8 {
    let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (stream << 7) ^ from as u64;
    (mixed >> 24) as u8 ^ at as u8
}

impl Game {
    fn new(hostile: bool) -> Self {
        let user = |side| User {
            machine: Machine::new(side, WINDOWS),
            held: Vec::new(),
            wire: BytesMut::new(),
        };
        Self {
            users: [user(Side::Dialing), user(Side::Accepting)],
            ways: BTreeMap::new(),
            hostile,
            damaged: false,
            refused: false,
            opened: 0,
            resets: 0,
            ends: 0,
            full: 0,
        }
    }

    fn act(&mut self, what: u8, pick: u8, size: u8) {
        let side = usize::from(what >> 7);
        let held = &self.users[side].held;
        let stream = (!held.is_empty()).then(|| held[usize::from(pick) % held.len()]);
        let code = CODES[usize::from(size) % CODES.len()];
        match ((what & 0x7f) % 13, stream) {
            (0, _) => self.open(side),
            (1, _) => _ = self.accept(side),
            (2 | 3, Some(stream)) => self.write(side, stream, usize::from(size) * 200 + 1),
            (4 | 5, Some(stream)) => self.read(side, stream, usize::from(size) * 200 + 1),
            (6, Some(stream)) => self.finish(side, stream),
            (7, Some(stream)) => self.reset(side, stream, code),
            (8, Some(stream)) => self.stop(side, stream, code),
            (9, Some(stream)) => {
                let priorities = [1000, 100, 10, -10];
                let priority = priorities[usize::from(size) % 4];
                self.users[side].machine.set_priority(stream, priority);
            }
            (10, _) => self.transmit(side, usize::from(size) * 64 + 64),
            (11, _) => _ = self.deliver(side, usize::from(size) * usize::from(pick) + 1),
            (12, _) if self.hostile => self.damage(side, pick, size),
            _ => {}
        }
    }

    fn open(&mut self, side: usize) {
        let user = &mut self.users[side];
        let mine = user
            .held
            .iter()
            .filter(|stream| **stream % 2 == side as u64);
        let open = mine.count() as u64;
        if let Some(stream) = user.machine.open() {
            assert!(open < WINDOWS.streams || self.damaged, "{open} are open");
            assert_eq!(stream % 2, side as u64, "a number of the other side");
            user.held.push(stream);
            for from in 0..2 {
                let known = self.ways.insert((stream, from), Way::default());
                assert!(known.is_none(), "stream {stream} is used twice");
            }
            self.opened += 1;
        }
    }

    fn accept(&mut self, side: usize) -> bool {
        let user = &mut self.users[side];
        let accepted = user.machine.accept();
        if let Some(stream) = accepted {
            let known = self.ways.contains_key(&(stream, side));
            assert!(known || self.damaged, "stream {stream} was never opened");
            self.ways.entry((stream, 0)).or_default();
            self.ways.entry((stream, 1)).or_default();
            user.held.push(stream);
        }
        accepted.is_some()
    }

    fn way(&mut self, stream: u64, from: usize) -> &mut Way {
        self.ways.entry((stream, from)).or_default()
    }

    fn write(&mut self, side: usize, stream: u64, length: usize) {
        let way = *self.way(stream, side);
        if !way.writable() {
            return;
        }
        let content = (way.written..way.written + length as u64).map(|at| byte(stream, side, at));
        let mut chunks = VecDeque::from([Bytes::from_iter(content)]);
        let taken = self.users[side].machine.write(stream, &mut chunks);
        let left: usize = chunks.iter().map(Bytes::len).sum();
        match taken {
            Ok(room) => {
                assert_eq!(room, left < length, "room, and nothing taken");
                self.full += u32::from(!room);
                self.way(stream, side).written += (length - left) as u64;
            }
            Err(StreamError::Reset(code)) => {
                assert!(
                    way.stopped == Some(code) || self.damaged,
                    "{code:?} {way:?}"
                );
            }
            Err(StreamError::Lost) => assert!(self.damaged, "a stream is lost"),
        }
    }

    fn read(&mut self, side: usize, stream: u64, most: usize) {
        let from = 1 - side;
        let way = *self.way(stream, from);
        if way.stopped.is_some() || way.ended {
            return;
        }
        match self.users[side].machine.read(stream, most) {
            Ok(Some(Some(bytes))) => {
                assert!(!bytes.is_empty() && bytes.len() <= most);
                if !self.damaged {
                    let right = (way.read..).map(|at| byte(stream, from, at));
                    assert!(
                        bytes.iter().copied().eq(right.take(bytes.len())),
                        "other bytes"
                    );
                    assert!(way.read + bytes.len() as u64 <= way.written);
                }
                self.way(stream, from).read += bytes.len() as u64;
            }
            Ok(Some(None)) => {
                let whole = way.finished && way.read == way.written;
                assert!(whole || self.damaged, "an end too early: {way:?}");
                self.way(stream, from).ended = true;
                self.ends += 1;
            }
            Ok(None) => {}
            Err(StreamError::Reset(code)) => {
                assert!(way.reset == Some(code) || self.damaged, "{code:?} {way:?}");
            }
            Err(StreamError::Lost) => assert!(self.damaged, "a stream is lost"),
        }
    }

    fn finish(&mut self, side: usize, stream: u64) {
        if self.way(stream, side).writable() {
            self.way(stream, side).finished = true;
            self.users[side].machine.finish(stream);
        }
    }

    fn reset(&mut self, side: usize, stream: u64, code: Code) {
        let way = self.way(stream, side);
        if way.writable() {
            way.reset = Some(code);
            self.users[side].machine.reset(stream, code);
            self.resets += 1;
        }
    }

    fn stop(&mut self, side: usize, stream: u64, code: Code) {
        let way = self.way(stream, 1 - side);
        way.stopped.get_or_insert(code);
        self.users[side].machine.stop(stream, code);
        self.resets += 1;
    }

    fn transmit(&mut self, side: usize, most: usize) {
        let user = &mut self.users[side];
        // As the link does: nothing is taken while much is under way.
        if user.wire.len() < 64 * 1024 {
            let mut out = BytesMut::new();
            user.machine.transmit(&mut out, most);
            user.wire.extend_from_slice(&out);
            user.machine.events();
        }
    }

    fn deliver(&mut self, side: usize, most: usize) -> usize {
        let length = most.min(self.users[side].wire.len());
        let bytes = self.users[side].wire.split_to(length);
        let machine = &mut self.users[1 - side].machine;
        match machine.receive(&bytes) {
            Ok(()) => drop(machine.events()),
            Err(error) => {
                assert!(self.damaged, "an honest peer is refused: {error}");
                self.refused = true;
                machine.close(CloseCode::Protocol, "refused");
            }
        }
        length
    }

    fn damage(&mut self, side: usize, pick: u8, size: u8) {
        let wire = &mut self.users[side].wire;
        let length = wire.len();
        match size % 4 {
            0 => wire.extend_from_slice(&[pick, size, 1, 0]),
            1 if length > 0 => wire.advance(usize::from(pick) % length),
            2 => wire.truncate(usize::from(pick) * 3 % (length + 1)),
            _ if length > 0 => wire[usize::from(pick) % length] ^= 1 << (size / 4 % 8),
            _ => return,
        }
        self.damaged = true;
    }

    /// What holds at any time, whatever a peer sends.
    fn bounds(&self) {
        for user in &self.users {
            let (_, theirs, unread) = user.machine.held();
            assert!(
                theirs as u64 <= WINDOWS.streams,
                "{theirs} streams of the peer"
            );
            assert!(unread <= WINDOWS.connection, "{unread} unread bytes");
        }
        if !self.damaged {
            let most = SEND_BUFFER as u64 + WINDOWS.stream;
            let under_way = |way: &Way| way.stopped.is_some() || way.written - way.read <= most;
            assert!(
                self.ways.values().all(under_way),
                "more under way than allowed"
            );
        }
    }

    /// Lets everything arrive and be read, then lets go of everything: what was finished must
    /// have come whole, and nothing may be left.
    fn settle(&mut self) {
        self.exchange();
        for (place, way) in &self.ways {
            let whole = way.finished && way.stopped.is_none() && way.reset.is_none();
            assert!(
                !whole || way.ended,
                "{place:?} has not come to its end: {way:?}"
            );
        }
        for side in 0..2 {
            for stream in std::mem::take(&mut self.users[side].held) {
                let machine = &mut self.users[side].machine;
                machine.reset(stream, Code::Cancelled);
                machine.stop(stream, Code::Cancelled);
                machine.release_send(stream);
                machine.release_recv(stream);
            }
        }
        self.exchange();
        for user in &self.users {
            assert_eq!(user.machine.held(), (0, 0, 0), "something is left");
        }
    }

    fn exchange(&mut self) {
        loop {
            let mut moved = 0;
            for side in 0..2 {
                self.transmit(side, 16 * 1024);
                moved += self.deliver(side, usize::MAX);
                moved += usize::from(self.accept(side));
                for stream in self.users[side].held.clone() {
                    let before = *self.way(stream, 1 - side);
                    self.read(side, stream, usize::MAX);
                    let after = self.way(stream, 1 - side);
                    moved += (after.read - before.read) as usize;
                    moved += usize::from(after.ended != before.ended);
                }
            }
            if moved == 0 {
                return;
            }
        }
    }

    fn outcome(&self) -> u64 {
        let size = |number: u64| u64::BITS - number.leading_zeros();
        let mut hasher = DefaultHasher::new();
        (self.damaged, self.refused, self.opened, self.full.min(3)).hash(&mut hasher);
        (size(self.resets.into()), size(self.ends.into())).hash(&mut hasher);
        let read: u64 = self.ways.values().map(|way| way.read).sum();
        size(read).hash(&mut hasher);
        hasher.finish()
    }
}
