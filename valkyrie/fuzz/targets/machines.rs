//! State machines under operations that the bytes choose, against models.
//! Must not use the machines inside the models.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use valkyrie::append::{Piece, Sink, Writer};
use valkyrie::limits::Rate;
use valkyrie::qos::TokenBucket;
use valkyrie::session::{Secret, Sessions, Ticket};
use valkyrie::wire::SessionId;

use super::{named, size};
use crate::simulation::choices::Choices;
use crate::simulation::world::World;

/// A whole simulated run, its faults and application chosen by the input.
pub(crate) fn session(input: &[u8]) -> u64 {
    let mut world = World::new(Choices::given(input), false);
    let shown = world.run().unwrap_or_else(|broken| panic!("{broken}"));
    let part = |number: u64| size(number as usize);
    named([
        part(shown.answered),
        part(shown.resent),
        part(shown.unavailable),
        part(shown.late),
        part(shown.resumed),
        part(shown.bytes),
        part(shown.events),
    ])
}

/// One session in the model.
#[derive(Clone)]
struct Known {
    peer: u8,
    secret: u8,
    connection: u64,
    detached: Option<Instant>,
}

/// The table of sessions against a plain map.
pub(crate) fn resume(input: &[u8]) -> u64 {
    const WINDOW: Duration = Duration::from_secs(10);
    const ROOM: usize = 4;
    let mut table: Sessions<u8, u8> = Sessions::new(WINDOW, ROOM);
    let mut model: BTreeMap<SessionId, Known> = BTreeMap::new();
    let mut now = Instant::now();
    let mut fresh = 0_u8;
    let mut connections = Vec::new();
    let (mut resumed, mut full, mut evicted, mut expired) = (0, 0, 0, 0);
    for operation in input.chunks_exact(3).take(200) {
        let (what, a, b) = (operation[0] % 6, operation[1], operation[2]);
        match what {
            0 | 1 => {
                let id = SessionId([a % (fresh + 1); 16]);
                let secret = if b & 0x40 == 0 { id.0[0] } else { b };
                let shown = Ticket {
                    id,
                    secret: Secret([secret; 32]),
                };
                let shown = (what == 1).then_some(&shown);
                let peer = b % 3;
                fresh = fresh.wrapping_add(1);
                let new = SessionId([fresh; 16]);
                model.remove(&new);
                table.remove(new);
                let ticket = Ticket {
                    id: new,
                    secret: Secret([fresh; 32]),
                };
                let may = shown.is_some()
                    && model.get(&id).is_some_and(|known| {
                        known.peer == peer
                            && known.secret == secret
                            && known.detached.is_none_or(|at| now < at + WINDOW)
                    });
                let oldest = model
                    .iter()
                    .filter_map(|(id, known)| Some((known.detached?, *id)))
                    .min();
                let attached = table.attach(peer, shown, ticket, || fresh, now);
                if may {
                    let attached = attached.expect("a known session has room");
                    assert!(attached.resumed && attached.evicted.is_none());
                    assert_eq!((attached.ticket.id, attached.value), (id, id.0[0]));
                    let known = model.get_mut(&id).expect("it may");
                    known.connection = attached.connection;
                    known.detached = None;
                    connections.push((id, attached.connection));
                    resumed += 1;
                    continue;
                }
                if model.len() == ROOM {
                    let Some((_, oldest)) = oldest else {
                        assert!(attached.is_err(), "no room, and none waits");
                        full += 1;
                        continue;
                    };
                    model.remove(&oldest);
                    evicted += 1;
                    let gone = attached.as_ref().expect("one waits").evicted;
                    assert_eq!(gone.map(|(id, _)| id), Some(oldest));
                }
                let attached = attached.expect("there is room");
                assert!(!attached.resumed && attached.ticket.id == new);
                connections.push((new, attached.connection));
                let known = Known {
                    peer,
                    secret: fresh,
                    connection: attached.connection,
                    detached: None,
                };
                model.insert(new, known);
            }
            2 if !connections.is_empty() => {
                let (id, connection) = connections[usize::from(a) % connections.len()];
                let known = model.get_mut(&id);
                let current = known.filter(|known| known.connection == connection);
                let expected = current.is_some();
                if let Some(known) = current {
                    known.detached = Some(now);
                }
                assert_eq!(table.detach(id, connection, now), expected);
            }
            3 => now += Duration::from_millis(u64::from(a) * 40),
            4 => {
                let mut gone: Vec<_> = table.expire(now).into_iter().map(|(id, _)| id).collect();
                gone.sort();
                let over = |known: &Known| known.detached.is_some_and(|at| now >= at + WINDOW);
                let ids = model.iter().filter(|(_, known)| over(known));
                let expected: Vec<_> = ids.map(|(id, _)| *id).collect();
                assert_eq!(gone, expected);
                expired += gone.len();
                model.retain(|_, known| !over(known));
            }
            _ => {
                let id = SessionId([a % (fresh + 1); 16]);
                let value = model.remove(&id).map(|_| id.0[0]);
                assert_eq!(table.remove(id), value);
            }
        }
        assert_eq!(table.len(), model.len());
        let next = model.values().filter_map(|known| known.detached).min();
        assert_eq!(table.next_expiry(), next.map(|at| at + WINDOW));
    }
    named([
        size(resumed),
        size(full),
        size(evicted),
        size(expired),
        size(model.len()),
    ])
}

/// A token bucket never gives more than its rate, and keeps what it says of waiting.
pub(crate) fn buckets(input: &[u8]) -> u64 {
    let (Some(head), Some(rest)) = (input.get(..2), input.get(2..)) else {
        return 0;
    };
    let rate = Rate::new(u64::from(head[0]), u64::from(head[1]));
    let start = Instant::now();
    let mut now = start;
    let mut bucket = TokenBucket::new(rate, now);
    let (mut granted, mut refused) = (0_u128, 0);
    for step in rest.chunks_exact(2).take(200) {
        now += Duration::from_micros(u64::from(step[0]).pow(2) * 13);
        let tokens = u64::from(step[1] % 32);
        match bucket.take(tokens, now) {
            true => granted += u128::from(tokens),
            false => refused += 1,
        }
        let nanos = now.duration_since(start).as_nanos();
        let most = u128::from(rate.burst) * 1_000_000_000 + nanos * u128::from(rate.per_sec);
        assert!(granted * 1_000_000_000 <= most);
        if let Some(wait) = bucket.wait(tokens, now) {
            assert!(bucket.clone().take(tokens, now + wait));
        }
    }
    named([
        size(granted as usize),
        size(refused),
        size(rate.per_sec as usize),
    ])
}

/// A log between a writer and a sink, against the bytes that were written: whatever is cut,
/// repeated, crashed or sent from elsewhere, the store holds a beginning of them.
pub(crate) fn append(input: &[u8]) -> u64 {
    const MOST: usize = 64;
    let (mut written, mut stored) = (Vec::<u8>::new(), Vec::<u8>::new());
    let mut writer = Writer::default();
    let mut sink = Sink::new(0, MOST);
    writer.acknowledged(sink.ack()).unwrap();
    let mut writing = None;
    let (mut refused, mut cuts) = (0, 0);
    for operation in input.chunks_exact(2).take(300) {
        let (what, a) = (operation[0] % 7, usize::from(operation[1]));
        match what {
            0 => {
                let end = written.len();
                written.extend((end..end + a % 50).map(|at| at as u8));
                writer.extend_to(written.len() as u64);
            }
            1 | 2 => {
                if let Some(Piece::Bytes { offset, length }) = writer.next(1 + a % MOST) {
                    let bytes = &written[offset as usize..][..length];
                    let taken = sink.chunk(offset, bytes, crc32c::crc32c(bytes));
                    taken.expect("the sink refused what follows");
                    writer.sent(length);
                }
            }
            3 => {
                // A repeated, overlapping or early chunk, perhaps with a broken checksum.
                let offset = a * written.len() / 256;
                let bytes = &written[offset..(offset + a % MOST).min(written.len())];
                let sum = crc32c::crc32c(bytes) ^ u32::from(a % 5 == 0);
                refused += usize::from(sink.chunk(offset as u64, bytes, sum).is_err());
            }
            4 if writing.is_none() => writing = sink.write(),
            5 => {
                if let Some(write) = writing.take() {
                    assert_eq!(write.offset, stored.len() as u64, "a gap, or a byte twice");
                    stored.extend_from_slice(&write.bytes);
                    let ack = sink.written(stored.len() as u64);
                    writer.acknowledged(ack).unwrap();
                }
            }
            6 => {
                // The stream is cut, or the store crashed in the middle of a write.
                cuts += 1;
                writing = None;
                sink = Sink::new(stored.len() as u64, MOST);
                writer.reopen();
                writer.acknowledged(sink.ack()).unwrap();
            }
            _ => {}
        }
        assert!(
            written.starts_with(&stored),
            "other bytes than were written"
        );
        assert!(
            writer.durable() <= stored.len() as u64,
            "acknowledged, and not stored"
        );
    }
    named([
        size(written.len()),
        size(stored.len()),
        size(refused),
        size(cuts),
    ])
}

/// Two streams each way, written, carried, read and ended; see `valkyrie::fuzzing::mux`.
#[cfg(feature = "tcp")]
pub(crate) fn example_mux() -> Vec<u8> {
    let round = |side: u8| {
        let (open, write, finish, read, transmit, deliver) = (0, 2, 6, 4, 10, 11);
        let one = [
            [open, 0, 0],
            [open, 0, 0],
            [write, 0, 99],
            [write, 1, 255],
            [transmit, 0, 255],
            [deliver, 255, 255],
            [finish, 0, 0],
        ];
        let two = [[1, 0, 0], [1, 0, 0], [read, 0, 9], [read, 1, 255]];
        let of = |side: u8, act: [u8; 3]| [act[0] + 13 * 3 + 128 * side, act[1], act[2]];
        let carry = [[transmit, 0, 255], [deliver, 255, 255]];
        let there = one.into_iter().chain(carry).map(move |act| of(side, act));
        let back = two
            .into_iter()
            .chain(carry)
            .map(move |act| of(1 - side, act));
        there.chain(back).collect::<Vec<_>>()
    };
    let first = [[0; 1].to_vec()];
    let rounds = [round(0), round(1), round(0)].concat().concat();
    first.concat().into_iter().chain(rounds).collect()
}
