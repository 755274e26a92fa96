//! Attacks on the multiplexer, over TLS on TCP and over WebSocket in TLS: each meets its limit, is
//! counted, and leaves the others alone.
//! Must not rely on our own dialer where it would refuse to do what an attacker does.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use valkyrie::endpoint::{Limits, Session, TransportKind};
use valkyrie::identity::tls;
use valkyrie::limits::Rate;
use valkyrie::metrics::Refusal;
use valkyrie::session::ClientHandshake;
use valkyrie::wire::message::{Framed, OpenHead};
use valkyrie::wire::{Frame, FrameType, varint};

use crate::attacks::{call, dropped, refused, unharmed};
use crate::keys::{ALPNS, connect};
use crate::service::*;
use crate::world::*;

// Frames of the multiplexer, by their numbers in the specification.
const OPEN: u64 = 0x01;
const DATA: u64 = 0x02;
const END: u64 = 0x03;
const RESET: u64 = 0x04;
const STOP: u64 = 0x05;
const CREDIT: u64 = 0x08;
const STREAMS: u64 = 0x09;
const WINDOW: u64 = 0x0a;
const CLOSE: u64 = 0x0b;
const DOOR: u64 = 0x0c;
const JOIN: u64 = 0x0d;
const JOINED: u64 = 0x0e;

// Codes of `CLOSE`.
const PROTOCOL: u64 = 2;
const REFUSED: u64 = 3;
const OVERLOADED: u64 = 8;

/// A frame: its type, the flag of those that must be understood, its length, its payload.
fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    flagged(kind, 1, payload)
}

fn flagged(kind: u64, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint::encode(kind, &mut bytes);
    bytes.push(flags);
    varint::encode(payload.len() as u64, &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn number(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint::encode(number, &mut bytes);
    bytes
}

/// A frame of a stream.
fn of(kind: u64, stream: u64, rest: &[u8]) -> Vec<u8> {
    frame(kind, &[&number(stream)[..], rest].concat())
}

/// The head of a duplex stream whose handler does not read it.
fn stalled() -> Vec<u8> {
    let open = OpenHead {
        method: STALL_STREAM.0,
        class: 2,
        ..OpenHead::default()
    };
    open.to_frame().to_bytes().to_vec()
}

enum Wire {
    Tcp(Box<TlsStream<TcpStream>>),
    WebSocket(Box<WebSocketStream<TlsStream<TcpStream>>>),
}

/// A peer that says what it likes behind a good certificate.
struct Attacker {
    wire: Wire,
    seen: Vec<u8>,
}

impl Attacker {
    async fn dial(world: &World, peer: &str) -> Self {
        let tls = secure(world, peer).await;
        let wire = match world.kind {
            TransportKind::WebSocket => {
                let uri = "ws://valkyrie.invalid/valkyrie".parse().unwrap();
                let request = ClientRequestBuilder::new(uri).with_sub_protocol("valkyrie.1");
                let upgraded = tokio_tungstenite::client_async(request, tls).await;
                Wire::WebSocket(Box::new(upgraded.unwrap().0))
            }
            _ => Wire::Tcp(Box::new(tls)),
        };
        let seen = Vec::new();
        Self { wire, seen }
    }

    /// One that has shaken hands.
    async fn admitted(world: &World, peer: &str) -> Self {
        let mut attacker = Self::dial(world, peer).await;
        let hello = ClientHandshake::new(&Limits::default(), None, Instant::now()).hello(1);
        attacker.say(&of(OPEN, 0, &[])).await;
        attacker.say(&of(DATA, 0, &hello)).await;
        let ack = FrameType::HelloAck.number();
        let is_ack = |(kind, payload): &(u64, Vec<u8>)| {
            *kind == DATA && payload.get(1).is_some_and(|it| u64::from(*it) == ack)
        };
        while !attacker.frames().iter().any(is_ack) {
            assert!(attacker.hear().await, "it was not admitted");
        }
        attacker
    }

    /// Whether it could still be sent.
    async fn say(&mut self, bytes: &[u8]) -> bool {
        match &mut self.wire {
            Wire::Tcp(tls) => tls.write_all(bytes).await.is_ok() && tls.flush().await.is_ok(),
            Wire::WebSocket(socket) => {
                let message = Message::Binary(bytes.to_vec().into());
                socket.send(message).await.is_ok()
            }
        }
    }

    /// Takes in what comes; false at the end.
    async fn hear(&mut self) -> bool {
        match &mut self.wire {
            Wire::Tcp(tls) => {
                let mut piece = [0; 4096];
                let read = in_time("bytes", tls.read(&mut piece)).await.unwrap_or(0);
                self.seen.extend_from_slice(&piece[..read]);
                read > 0
            }
            Wire::WebSocket(socket) => match in_time("a message", socket.next()).await {
                Some(Ok(message)) => {
                    if let Message::Binary(bytes) = message {
                        self.seen.extend_from_slice(&bytes);
                    }
                    true
                }
                _ => false,
            },
        }
    }

    /// The whole frames that have come: types and payloads.
    fn frames(&self) -> Vec<(u64, Vec<u8>)> {
        let (mut frames, mut rest) = (Vec::new(), &self.seen[..]);
        loop {
            let Ok(Some((kind, used))) = varint::decode(rest) else {
                return frames;
            };
            let Some(after) = rest.get(used + 1..) else {
                return frames;
            };
            let Ok(Some((length, used))) = varint::decode(after) else {
                return frames;
            };
            let Some(payload) = after.get(used..used + length as usize) else {
                return frames;
            };
            frames.push((kind, payload.to_vec()));
            rest = &after[used + payload.len()..];
        }
    }

    /// The payload of the last frame of a type.
    fn last(&self, kind: u64) -> Option<Vec<u8>> {
        let frames = self.frames();
        let last = frames.into_iter().rev().find(|(it, _)| *it == kind);
        last.map(|(_, payload)| payload)
    }

    fn last_number(&self, kind: u64) -> Option<u64> {
        let decoded = varint::decode(&self.last(kind)?).unwrap();
        decoded.map(|(number, _)| number)
    }

    /// The code by which the server ends it.
    async fn ended(mut self) -> Option<u64> {
        while self.hear().await {}
        self.last_number(CLOSE)
    }
}

/// TLS by a certificate of this peer, for the transport of this world.
async fn secure(world: &World, peer: &str) -> TlsStream<TcpStream> {
    let mut config = tls::client_config(&world.identity(peer), None).unwrap();
    let (_, alpn) = ALPNS
        .into_iter()
        .find(|(kind, _)| *kind == world.kind)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    in_time("TLS", connect(world, config)).await.unwrap()
}

/// Runs it over TCP and over WebSocket, each time with an honest peer beside, who must be as well
/// afterwards as before.
async fn on_each<F>(limits: Limits, attack: impl Fn(World) -> F)
where
    F: Future<Output = World>,
{
    for (kind, _) in ALPNS {
        let world = World::new(kind, limits.clone()).await;
        let honest: Session = world.dial("ns/a/agent/honest").await;
        let _world = attack(world).await;
        unharmed(&honest).await;
    }
}

const PEER: &str = "ns/a/agent/1";

#[tokio::test]
async fn frames_that_break_the_rules_end_the_connection_and_are_counted() {
    let end_twice = [of(OPEN, 2, &[]), of(END, 2, &[]), of(DATA, 2, b"x")].concat();
    let over_credit = {
        let mut bytes = [of(OPEN, 2, &[]), of(DATA, 2, &stalled())].concat();
        for _ in 0..1024 {
            bytes.extend(of(DATA, 2, &[7; 8 * 1024]));
        }
        bytes
    };
    let windows: Vec<u8> = (0..65)
        .flat_map(|more| frame(WINDOW, &number((1 << 20) + more)))
        .collect();
    let too_long = {
        let mut bytes = number(DATA);
        bytes.push(1);
        varint::encode(1 << 40, &mut bytes);
        bytes
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown critical frame", frame(0x3f, &[])),
        ("too many unknown frames", flagged(0x3f, 0, &[]).repeat(33)),
        ("unknown flags", flagged(CREDIT, 0xff, &number(1))),
        ("a control frame that is too long", frame(CLOSE, &[2; 2000])),
        ("a data frame that is too long", too_long),
        ("data on a stream that was never opened", of(DATA, 8, b"x")),
        ("the end of a stream that was never opened", of(END, 8, &[])),
        ("a stream out of its turn", of(OPEN, 4000, &[])),
        ("a stream of the other side", of(OPEN, 1, &[])),
        ("data after the end", end_twice),
        ("more than there is credit for", over_credit),
        ("a door of the client's", frame(DOOR, &[9; 32])),
        ("an answer to nobody's asking", frame(JOINED, &[])),
        ("a ticket in the middle", frame(JOIN, &[9; 32])),
        (
            "credits that change nothing",
            frame(CREDIT, &number(0)).repeat(1001),
        ),
        ("windows that creep", windows),
        ("a half frame of no form", frame(OPEN, &[])),
    ];
    on_each(Limits::default(), async |world| {
        for (at, (what, bytes)) in (1..).zip(&cases) {
            let mut attacker = Attacker::admitted(&world, PEER).await;
            // The server may hang up in the middle of it.
            for piece in bytes.chunks(16 * 1024) {
                if !attacker.say(piece).await {
                    break;
                }
            }
            let code = attacker.ended().await;
            assert!(matches!(code, Some(PROTOCOL) | None), "{what}: {code:?}");
            let metrics = world.server().metrics();
            counted(what, metrics.refused(Refusal::Protocol), at).await;
        }
        world
    })
    .await;
}

#[tokio::test]
async fn a_storm_of_streams_opened_and_broken_off_ends_the_connection() {
    let limits = Limits {
        reset_rate: Rate::new(1, 50),
        ..Limits::default()
    };
    on_each(limits, async |world| {
        let mut attacker = Attacker::admitted(&world, PEER).await;
        let mut opened = 1;
        loop {
            let allowed = attacker.last_number(STREAMS).unwrap_or(0);
            if opened >= allowed {
                if !attacker.hear().await {
                    break;
                }
                continue;
            }
            let stream = 2 * opened;
            let storm = [
                of(OPEN, stream, &[]),
                of(DATA, stream, &call(HANG, 0)),
                of(RESET, stream, &number(1)),
                of(STOP, stream, &number(1)),
            ];
            if !attacker.say(&storm.concat()).await {
                break;
            }
            opened += 1;
        }
        assert_eq!(attacker.ended().await, Some(OVERLOADED));
        assert_eq!(refused(&world, Refusal::Resets), 1);
        world
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_pings_ends_the_connection() {
    on_each(Limits::default(), async |world| {
        let mut attacker = Attacker::admitted(&world, PEER).await;
        let ping = Frame {
            kind: FrameType::Ping,
            payload: vec![7; 8].into(),
        };
        attacker
            .say(&of(DATA, 0, &ping.to_bytes().repeat(400)))
            .await;
        assert_eq!(attacker.ended().await, Some(OVERLOADED));
        assert_eq!(refused(&world, Refusal::ControlFlood), 1);
        world
    })
    .await;
}

#[tokio::test]
async fn peers_that_never_come_to_a_hello_are_put_out_in_time() {
    let limits = Limits {
        hello: Duration::from_millis(300),
        ..Limits::default()
    };
    on_each(limits, async |world| {
        let silent = Attacker::dial(&world, PEER).await;
        assert_eq!(silent.ended().await, Some(REFUSED));
        let mut half = Attacker::dial(&world, PEER).await;
        half.say(&[of(OPEN, 0, &[]), of(DATA, 0, &[1, 1])].concat())
            .await;
        assert_eq!(half.ended().await, Some(REFUSED));
        assert_eq!(refused(&world, Refusal::Slow), 2);

        let mut drips = TcpStream::connect(world.address).await.unwrap();
        // The beginning of a record of TLS that never becomes whole.
        drips.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        let put_out = async {
            while drips.write_all(&[0]).await.is_ok() {
                tick().await
            }
        };
        in_time("the end", put_out).await;
        dropped(&world, Refusal::Tls).await;
        world
    })
    .await;
}

/// A drip's pace.
async fn tick() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

#[tokio::test]
async fn an_upgrade_that_drips_and_one_that_has_no_end_are_put_out() {
    let limits = Limits {
        hello: Duration::from_millis(500),
        ..Limits::default()
    };
    let world = World::new(TransportKind::WebSocket, limits).await;
    let honest = world.dial("ns/a/agent/honest").await;
    let begin = b"GET /valkyrie HTTP/1.1\r\nHost: oak\r\nx-filler: ";
    for piece in [&b"a"[..], &[b'a'; 4096]] {
        let mut tls = secure(&world, PEER).await;
        tls.write_all(begin).await.unwrap();
        let put_out = async {
            while tls.write_all(piece).await.is_ok() && tls.flush().await.is_ok() {
                tick().await;
            }
        };
        in_time("the end", put_out).await;
    }
    let metrics = world.server().metrics();
    counted("both", metrics.refused(Refusal::Tls), 2).await;
    unharmed(&honest).await;
}

#[tokio::test]
async fn messages_of_websocket_that_carry_nothing_or_too_much_end_the_connection() {
    let world = World::new(TransportKind::WebSocket, Limits::default()).await;
    let honest = world.dial("ns/a/agent/honest").await;
    let floods: [(&str, Message, usize); 4] = [
        ("text", Message::text("acorn"), 1),
        ("empty messages", Message::Binary(Vec::new().into()), 1001),
        ("pongs", Message::Pong(Vec::new().into()), 1001),
        (
            "a large message",
            Message::Binary(vec![0; 65 * 1024].into()),
            1,
        ),
    ];
    for (at, (what, message, times)) in (1..).zip(floods) {
        let mut attacker = Attacker::admitted(&world, PEER).await;
        let Wire::WebSocket(socket) = &mut attacker.wire else {
            unreachable!("the world is of WebSocket");
        };
        for _ in 0..times {
            if socket.send(message.clone()).await.is_err() {
                break;
            }
        }
        let code = attacker.ended().await;
        assert!(matches!(code, Some(PROTOCOL) | None), "{what}: {code:?}");
        let metrics = world.server().metrics();
        counted(what, metrics.refused(Refusal::Protocol), at).await;
    }
    unharmed(&honest).await;
}

#[tokio::test]
async fn nobody_joins_by_a_ticket_that_is_wrong_or_another_peers() {
    on_each(Limits::default(), async |world| {
        let mut owner = Attacker::admitted(&world, PEER).await;
        while owner.last(DOOR).is_none() {
            assert!(owner.hear().await, "the server shows its door");
        }
        let ticket = owner.last(DOOR).unwrap();
        let mut thief = Attacker::dial(&world, "ns/a/agent/2").await;
        thief.say(&frame(JOIN, &ticket)).await;
        assert_eq!(thief.ended().await, Some(REFUSED));
        let mut guesser = Attacker::dial(&world, PEER).await;
        guesser.say(&frame(JOIN, &[9; 32])).await;
        assert_eq!(guesser.ended().await, Some(REFUSED));
        assert_eq!(refused(&world, Refusal::Ticket), 2);
        // Its owner may come through it.
        let mut further = Attacker::dial(&world, PEER).await;
        further.say(&frame(JOIN, &ticket)).await;
        while further.last(JOINED).is_none() {
            assert!(further.hear().await, "the owner was not let in");
        }
        world
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_connections_is_refused_and_the_next_place_is_given_again() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    on_each(limits, async |world| {
        let first = Attacker::admitted(&world, PEER).await;
        for _ in 0..10 {
            let mut socket = TcpStream::connect(world.address).await.unwrap();
            // The end, or a reset.
            let _ = in_time("the end", socket.read(&mut [0; 16])).await;
        }
        assert_eq!(refused(&world, Refusal::Connections), 10);
        drop(first);
        let late = in_time("a place", world.dial("ns/a/agent/late")).await;
        unharmed(&late).await;
        world
    })
    .await;
}

#[tokio::test]
async fn answers_that_nobody_reads_do_not_use_up_the_streams() {
    let limits = Limits {
        stall: Duration::from_millis(300),
        ..Limits::default()
    };
    on_each(limits, async |world| {
        let mut attacker = Attacker::admitted(&world, PEER).await;
        // It gives no credit for answers: the second and what follows can't leave.
        for stream in [2, 4, 6, 8] {
            let asked = [
                of(OPEN, stream, &[]),
                of(DATA, stream, &call(ECHO, 12 * 1024)),
                of(
                    DATA,
                    stream,
                    &[&[0x14, 1, 0x70, 0][..], &[7; 12 * 1024]].concat(),
                ),
                of(END, stream, &[]),
            ];
            attacker.say(&asked.concat()).await;
        }
        dropped(&world, Refusal::Stalled).await;
        world
    })
    .await;
}
