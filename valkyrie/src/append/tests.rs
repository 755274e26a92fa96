//! Writer and sinks against a vector of bytes, under cuts, repeats, reordering and crashes.
//! Must not know how bytes travel in a real session.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const MAX_CHUNK: usize = 64;

/// A store that appends as real ones do: what is there is skipped, a gap is an error.
#[derive(Default)]
struct Store {
    bytes: Vec<u8>,
    appended: usize,
    closed: Option<Ending>,
}

impl Store {
    fn append(&mut self, write: &Write) -> u64 {
        let offset = write.offset as usize;
        assert!(offset <= self.bytes.len(), "a sink never leaves a gap");
        let known = self.bytes.len() - offset;
        if known < write.bytes.len() {
            assert!(self.closed.is_none(), "nothing follows the end");
            self.bytes.extend_from_slice(&write.bytes[known..]);
            self.appended += write.bytes.len() - known;
        }
        self.bytes.len() as u64
    }

    fn close(&mut self, ending: Ending) -> bool {
        let same = ending.end == self.bytes.len() as u64
            && ending.digest == *blake3::hash(&self.bytes).as_bytes();
        if same {
            self.closed = Some(ending);
        }
        same
    }
}

#[derive(Clone, Debug)]
enum Message {
    Chunk(u64, Vec<u8>, u32),
    Ending(Ending),
}

/// One stream on its way: two directions that lose nothing until they are cut, unless the seed
/// repeats, swaps or damages.
struct Stream {
    number: u64,
    sink: Sink,
    up: VecDeque<Message>,
    down: VecDeque<Ack>,
    write: Option<Write>,
    /// The writer has gone; the sink writes what came, as a hub does.
    cut: bool,
}

struct World {
    random: StdRng,
    content: Vec<u8>,
    exists: usize,
    dropped: u64,
    writer: Writer,
    store: Store,
    streams: Vec<Stream>,
    current: Option<u64>,
    opened: u64,
    faults: Faults,
}

#[derive(Clone, Copy, Default, Debug)]
struct Faults {
    cuts: u64,
    repeats: u64,
    swaps: u64,
    damages: u64,
    crashes: u64,
    overlaps: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let length = random.random_range(0..1500);
        let content = (0..length).map(|_| random.random()).collect();
        Self {
            random,
            content,
            exists: 0,
            dropped: 0,
            writer: Writer::default(),
            store: Store::default(),
            streams: Vec::new(),
            current: None,
            opened: 0,
            faults: Faults::default(),
        }
    }

    fn open(&mut self) {
        self.opened += 1;
        self.faults.overlaps += u64::from(!self.streams.is_empty());
        let mut sink = Sink::new(self.store.bytes.len() as u64, MAX_CHUNK);
        if self.store.closed.is_some() {
            sink.closed();
        }
        let down = VecDeque::from([sink.ack()]);
        self.streams.push(Stream {
            number: self.opened,
            sink,
            up: VecDeque::new(),
            down,
            write: None,
            cut: false,
        });
        self.writer.reopen();
        self.current = Some(self.opened);
    }

    fn cut(&mut self) {
        let current = self.current.take();
        for stream in &mut self.streams {
            if Some(stream.number) == current {
                stream.cut = true;
                stream.down.clear();
                // What was on its way may still arrive, in part.
                let kept = self.random.random_range(0..=stream.up.len());
                stream.up.truncate(kept);
            }
        }
    }

    /// The sinks' process dies: what was not durable is gone.
    fn crash(&mut self) {
        self.streams.clear();
        self.current = None;
    }

    fn write_more(&mut self) {
        let more = self.random.random_range(0..200);
        let end = (self.exists + more).min(self.content.len());
        self.writer.extend_to(end as u64);
        self.exists = end;
        if end == self.content.len() {
            self.writer.end(*blake3::hash(&self.content).as_bytes());
        }
    }

    fn send(&mut self, faulty: bool) {
        let Some(current) = self.current else { return };
        let Some(piece) = self.writer.next(MAX_CHUNK) else {
            return;
        };
        let message = match piece {
            Piece::Bytes { offset, length } => {
                assert!(offset >= self.dropped, "the bytes are still there");
                let length = self.random.random_range(1..=length);
                let bytes = self.content[offset as usize..][..length].to_vec();
                self.writer.sent(length);
                let mut crc32c = crc32c::crc32c(&bytes);
                if faulty && self.random.random_bool(0.01) {
                    self.faults.damages += 1;
                    crc32c ^= 1;
                }
                Message::Chunk(offset, bytes, crc32c)
            }
            Piece::Ending(ending) => {
                self.writer.sent_ending();
                Message::Ending(ending)
            }
        };
        let stream = self.streams.iter_mut().find(|it| it.number == current);
        let up = &mut stream.expect("the current stream is there").up;
        if faulty && self.random.random_bool(0.05) {
            self.faults.repeats += 1;
            up.push_back(message.clone());
        }
        up.push_back(message);
        if faulty && up.len() > 1 && self.random.random_bool(0.02) {
            self.faults.swaps += 1;
            let last = up.len() - 1;
            up.swap(last, last - 1);
        }
    }

    /// One random stream makes one step of its sink.
    fn serve(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.streams.len());
        let stream = &mut self.streams[at];
        let arrives = self.random.random_range(0..3) == 0;
        let refused = match arrives.then(|| stream.up.pop_front()).flatten() {
            Some(Message::Chunk(offset, bytes, crc32c)) => {
                stream.sink.chunk(offset, &bytes, crc32c).is_err()
            }
            Some(Message::Ending(ending)) => stream.sink.ending(ending).is_err(),
            None => false,
        };
        if refused {
            self.end_stream(at);
            return;
        }
        let stream = &mut self.streams[at];
        if let Some(write) = stream.write.take() {
            let durable = self.store.append(&write);
            stream.down.push_back(stream.sink.written(durable));
        } else if let Some(write) = stream.sink.write() {
            stream.write = Some(write);
        } else if let Some(ending) = stream.sink.due() {
            if self.store.close(ending) {
                stream.down.push_back(stream.sink.closed());
            } else {
                panic!("the digest differs");
            }
        } else if stream.cut && stream.up.is_empty() {
            self.end_stream(at);
        }
    }

    fn end_stream(&mut self, at: usize) {
        let ended = self.streams.remove(at);
        if self.current == Some(ended.number) {
            self.current = None;
        }
    }

    fn hear(&mut self) {
        let current = self.current;
        let stream = self
            .streams
            .iter_mut()
            .find(|it| Some(it.number) == current);
        let Some(ack) = stream.and_then(|stream| stream.down.pop_front()) else {
            return;
        };
        let durable = self.store.bytes.len() as u64;
        assert!(
            ack.durable_end <= durable,
            "only what is durable is acknowledged"
        );
        self.writer
            .acknowledged(ack)
            .expect("the sink tells the truth");
        self.dropped = self.writer.durable();
    }

    fn step(&mut self, faulty: bool) {
        if self.current.is_none() {
            self.open();
        }
        match self.random.random_range(0..100) {
            0..10 => self.write_more(),
            10..40 => self.send(faulty),
            40..80 => self.serve(),
            80..98 => self.hear(),
            98 if faulty => {
                self.faults.cuts += 1;
                self.cut();
            }
            99 if faulty && self.random.random_bool(0.2) => {
                self.faults.crashes += 1;
                self.crash();
            }
            _ => {}
        }
        let stored = &self.store.bytes;
        assert!(
            self.content.starts_with(stored),
            "the store is a prefix of the log"
        );
    }
}

#[test]
fn through_cuts_repeats_reordering_and_crashes_each_byte_is_stored_once() {
    let mut faults = Faults::default();
    for seed in 0..4000 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step(true);
        }
        for step in 0.. {
            world.step(false);
            if world.writer.is_done() {
                break;
            }
            assert!(
                step < 200_000,
                "seed {seed}: never done, {:?}",
                world.writer
            );
        }
        assert!(world.store.bytes == world.content, "seed {seed}");
        assert_eq!(world.store.appended, world.content.len(), "seed {seed}");
        assert!(world.store.closed.is_some(), "seed {seed}");
        faults.cuts += world.faults.cuts;
        faults.repeats += world.faults.repeats;
        faults.swaps += world.faults.swaps;
        faults.damages += world.faults.damages;
        faults.crashes += world.faults.crashes;
        faults.overlaps += world.faults.overlaps;
    }
    let Faults {
        cuts,
        repeats,
        swaps,
        damages,
        crashes,
        overlaps,
    } = faults;
    // The faults were there: otherwise the run has shown nothing.
    let least = [cuts, repeats, swaps, damages, crashes, overlaps]
        .into_iter()
        .min();
    assert!(least > Some(500), "{faults:?}");
}

fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[test]
fn a_sink_trims_what_it_knows_and_refuses_the_rest_by_name() {
    let mut sink = Sink::new(10, 8);
    assert_eq!(sink.chunk(8, b"xxabcd", crc(b"xxabcd")), Ok(()));
    assert_eq!(
        sink.chunk(9, b"xab", crc(b"xab")),
        Ok(()),
        "all of it known"
    );
    assert_eq!(
        sink.chunk(15, b"f", crc(b"f")),
        Err(Refusal::Gap {
            offset: 15,
            end: 14
        })
    );
    assert_eq!(
        sink.chunk(14, b"e", 7),
        Err(Refusal::Checksum { offset: 14 })
    );
    assert_eq!(
        sink.chunk(14, &[0; 9], crc(&[0; 9])),
        Err(Refusal::TooLarge { max: 8 })
    );
    let digest = [3; 32];
    assert_eq!(
        sink.ending(Ending { end: 13, digest }),
        Err(Refusal::Gap {
            offset: 13,
            end: 14
        })
    );
    assert_eq!(sink.ending(Ending { end: 14, digest }), Ok(()));
    assert_eq!(sink.ending(Ending { end: 14, digest }), Ok(()), "repeated");
    let other = Ending {
        end: 14,
        digest: [4; 32],
    };
    assert_eq!(sink.ending(other), Err(Refusal::Ended { end: 14 }));
    assert_eq!(
        sink.chunk(14, b"e", crc(b"e")),
        Err(Refusal::Ended { end: 14 })
    );
    assert_eq!(
        sink.write().map(|write| write.bytes),
        Some("abcd".as_bytes().into())
    );
    let mut far = Sink::new(u64::MAX, 8);
    assert_eq!(far.chunk(u64::MAX, b"a", crc(b"a")), Err(Refusal::Overflow));
}

#[test]
fn a_log_is_closed_only_when_all_of_it_is_durable() {
    let mut sink = Sink::new(0, 8);
    sink.chunk(0, b"abc", crc(b"abc")).unwrap();
    let write = sink.write().unwrap();
    sink.chunk(3, b"de", crc(b"de")).unwrap();
    assert_eq!((sink.write(), sink.held()), (None, 2), "one at a time");
    let ending = Ending {
        end: 5,
        digest: [0; 32],
    };
    sink.ending(ending).unwrap();
    assert_eq!(sink.due(), None);
    assert_eq!(sink.written(write.end()).durable_end, 3);
    assert_eq!(sink.due(), None);
    let write = sink.write().unwrap();
    assert_eq!(
        sink.written(write.end()),
        Ack {
            durable_end: 5,
            closed: false
        }
    );
    assert_eq!(sink.due(), Some(ending));
    assert!(sink.closed().closed);
    assert_eq!(sink.due(), None);
}

#[test]
fn a_writer_believes_no_sink_that_cannot_be_right() {
    let open = |durable_end| Ack {
        durable_end,
        closed: false,
    };
    let closed = |durable_end| Ack {
        durable_end,
        closed: true,
    };
    let mut writer = Writer::default();
    writer.extend_to(10);
    assert_eq!(writer.next(4), None, "the sink has not said where to begin");
    let beyond = Broken::Beyond {
        durable_end: 11,
        end: 10,
    };
    assert_eq!(writer.acknowledged(open(11)), Err(beyond));
    assert_eq!(
        writer.acknowledged(closed(4)),
        Err(Broken::Closed { durable_end: 4 })
    );
    writer.acknowledged(open(4)).unwrap();
    assert_eq!(
        writer.next(4),
        Some(Piece::Bytes {
            offset: 4,
            length: 4
        })
    );
    writer.acknowledged(open(2)).unwrap();
    assert_eq!(
        writer.durable(),
        4,
        "an old word within a stream is no news"
    );
    writer.reopen();
    let forgotten = Broken::Forgotten {
        durable_end: 2,
        durable: 4,
    };
    assert_eq!(writer.acknowledged(open(2)), Err(forgotten));
    writer.end([0; 32]);
    writer.acknowledged(closed(10)).unwrap();
    assert!(writer.is_done() && writer.next(4).is_none());
}

#[test]
fn a_sink_goes_on_behind_what_another_stream_has_made_durable() {
    let mut sink = Sink::new(0, 8);
    sink.chunk(0, b"ab", crc(b"ab")).unwrap();
    sink.write().unwrap();
    sink.chunk(2, b"c", crc(b"c")).unwrap();
    assert_eq!(sink.written(5).durable_end, 5);
    assert_eq!((sink.write(), sink.held()), (None, 0));
    assert_eq!(sink.chunk(5, b"f", crc(b"f")), Ok(()));
    assert_eq!(sink.write().map(|write| write.offset), Some(5));
}
