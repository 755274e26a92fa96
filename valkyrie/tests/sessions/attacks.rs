//! Peers that try to use a server up; each attack meets its limit, is counted, and leaves the
//! others alone. Over real QUIC on loopback.
//! Must not rely on our own dialer where it would refuse to do what an attacker does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use valkyrie::endpoint::{Code, Limits, Session, TransportKind};
use valkyrie::limits::Rate;
use valkyrie::metrics::Refusal;
use valkyrie::session::ClientHandshake;
use valkyrie::wire::message::{CallHead, Framed, OpenHead};
use valkyrie::wire::{Frame, FrameType};

use crate::intruders::{client, forged, is_closed};
use crate::service::*;
use crate::world::*;

/// A server with these limits, and an honest peer on it.
pub(crate) async fn stage(limits: Limits) -> (World, Session) {
    let world = World::new(TransportKind::Quic, limits).await;
    let honest = world.dial("ns/a/agent/honest").await;
    (world, honest)
}

pub(crate) fn refused(world: &World, reason: Refusal) -> u64 {
    world.server().metrics().refused(reason).value()
}

/// The honest peer is as well as before.
pub(crate) async fn unharmed(honest: &Session) {
    let reply = in_time("the honest peer's call", echo(honest, "still here")).await;
    assert_eq!(reply.unwrap(), "still here");
}

/// Waits until the server has counted the drop.
pub(crate) async fn dropped(world: &World, reason: Refusal) {
    let metrics = world.server().metrics();
    counted(reason.label(), metrics.refused(reason), 1).await;
}

async fn connect(
    world: &World,
    config: quinn::ClientConfig,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client(local()).unwrap();
    let connecting = endpoint.connect_with(config, world.address, "x.invalid");
    connecting.unwrap().await
}

/// A peer with a good certificate that has shaken hands; its control stream comes with it.
pub(crate) async fn admitted(
    world: &World,
    config: quinn::ClientConfig,
) -> (quinn::Connection, quinn::SendStream, quinn::RecvStream) {
    let connection = connect(world, config).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let hello = ClientHandshake::new(&Limits::default(), None, Instant::now()).hello(1);
    send.write_all(&hello).await.unwrap();
    let mut first = [0];
    recv.read_exact(&mut first).await.unwrap();
    assert_eq!(u64::from(first[0]), FrameType::HelloAck.number());
    (connection, send, recv)
}

pub(crate) fn member(world: &World) -> quinn::ClientConfig {
    client(Some(forged(world, |_| {})))
}

pub(crate) fn call(method: valkyrie::wire::Method, length: u64) -> Bytes {
    let head = CallHead {
        method: method.0,
        class: 1,
        deadline_ms: 50_000,
        length,
        ..CallHead::default()
    };
    head.to_frame().to_bytes()
}

/// The head of a duplex stream that echoes.
pub(crate) fn open_stream() -> Vec<u8> {
    let open = OpenHead {
        method: ECHO_STREAM.0,
        class: 2,
        ..OpenHead::default()
    };
    [open.to_frame().to_bytes(), data(b"")].concat()
}

fn data(payload: &'static [u8]) -> Bytes {
    let payload = Bytes::from_static(payload);
    let kind = FrameType::Data;
    Frame { kind, payload }.to_bytes()
}

#[tokio::test]
async fn a_storm_of_streams_opened_and_broken_off_ends_the_connection() {
    let limits = Limits {
        reset_rate: Rate::new(1, 50),
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    let (connection, _send, _recv) = admitted(&world, member(&world)).await;
    let storm = async {
        while let Ok((mut send, mut recv)) = connection.open_bi().await {
            let _ = send.write_all(&call(HANG, 0)).await;
            let _ = send.reset(1u32.into());
            let _ = recv.stop(1u32.into());
        }
        connection.closed().await
    };
    let ended = in_time("the end of the storm", storm).await;
    assert!(is_closed(&ended, 8), "{ended}");
    assert_eq!(refused(&world, Refusal::Resets), 1);
    unharmed(&honest).await;
}

#[tokio::test]
async fn answers_that_are_refused_count_as_streams_broken_off() {
    let limits = Limits {
        reset_rate: Rate::new(1, 20),
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    let (connection, _send, _recv) = admitted(&world, member(&world)).await;
    let storm = async {
        while let Ok((mut send, mut recv)) = connection.open_bi().await {
            let _ = send.write_all(&call(HANG, 0)).await;
            let _ = send.finish();
            let _ = recv.stop(1u32.into());
        }
        connection.closed().await
    };
    let ended = in_time("the end of the storm", storm).await;
    assert!(is_closed(&ended, 8), "{ended}");
    unharmed(&honest).await;
}

#[tokio::test]
async fn a_flood_of_pings_ends_the_connection() {
    let (world, honest) = stage(Limits::default()).await;
    let (connection, mut send, _recv) = admitted(&world, member(&world)).await;
    let ping = Frame {
        kind: FrameType::Ping,
        payload: Bytes::from_static(&[7; 8]),
    };
    let flood = async {
        while send.write_all(&ping.to_bytes()).await.is_ok() {}
        connection.closed().await
    };
    let ended = in_time("the end of the flood", flood).await;
    assert!(is_closed(&ended, 8), "{ended}");
    assert_eq!(refused(&world, Refusal::ControlFlood), 1);
    unharmed(&honest).await;
}

#[tokio::test]
async fn endless_empty_frames_end_their_stream() {
    let (world, honest) = stage(Limits::default()).await;
    let (connection, _send, _recv) = admitted(&world, member(&world)).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let open = OpenHead {
        method: ECHO_STREAM.0,
        class: 2,
        ..OpenHead::default()
    };
    send.write_all(&open.to_frame().to_bytes()).await.unwrap();
    let reader =
        tokio::spawn(async move { while let Ok(Some(_)) = recv.read(&mut [0; 4096]).await {} });
    let flood = async { while send.write_all(&data(b"")).await.is_ok() {} };
    in_time("the end of the stream", flood).await;
    reader.abort();
    assert_eq!(refused(&world, Refusal::EmptyFrames), 1);
    assert_eq!(connection.close_reason(), None, "the connection goes on");
    unharmed(&honest).await;
}

#[tokio::test]
async fn an_oversized_frame_ends_its_stream_before_it_is_read() {
    let (world, honest) = stage(Limits::default()).await;
    let (connection, _send, _recv) = admitted(&world, member(&world)).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let gigabyte = [&call(ECHO, 3)[..], &[0x14, 1, 0xbf, 0xff, 0xff, 0xff]].concat();
    send.write_all(&gigabyte).await.unwrap();
    let stopped = in_time("the stop", send.stopped()).await.unwrap();
    let exhausted = Code::ResourceExhausted.number();
    assert_eq!(stopped, Some(exhausted.into()));
    assert_eq!(refused(&world, Refusal::Oversize), 1);
    unharmed(&honest).await;
}

#[tokio::test]
async fn a_frame_that_trickles_ends_its_stream_though_the_peer_is_heard() {
    let limits = Limits {
        frame_floor: (1024, Duration::from_millis(200)),
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    for begun in [
        &call(ECHO, 100)[..4],
        &call(ECHO, 100),
        &data(&[1; 50])[..20],
    ] {
        let before = refused(&world, Refusal::SlowFrame);
        let (connection, _send, _recv) = admitted(&world, member(&world)).await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        let head = if begun[0] == 0x14 {
            call(ECHO, 50)
        } else {
            Bytes::new()
        };
        send.write_all(&[&head, begun].concat()).await.unwrap();
        // Another stream shows that the link is up.
        let alive = async {
            loop {
                let (mut send, mut recv) = connection.open_bi().await.unwrap();
                send.write_all(&call(ECHO, 0)).await.unwrap();
                send.finish().unwrap();
                let _ = recv.read_to_end(1000).await;
            }
        };
        let stopped = tokio::select! {
            stopped = in_time("the stop", send.stopped()) => stopped.unwrap(),
            () = alive => None,
        };
        assert_eq!(stopped, Some(Code::DeadlineExceeded.number().into()));
        assert_eq!(refused(&world, Refusal::SlowFrame), before + 1);
    }
    unharmed(&honest).await;
}

#[tokio::test]
async fn a_frame_held_up_by_a_silent_link_goes_on_when_the_link_is_back() {
    let limits = Limits {
        frame_floor: (1024, Duration::from_millis(50)),
        ..Limits::default()
    };
    let world = World::new(TransportKind::Quic, limits).await;
    let (connection, _send, _recv) = admitted(&world, member(&world)).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let whole = [&call(ECHO, 2)[..], &data(b"ok")].concat();
    send.write_all(&whole[..whole.len() - 1]).await.unwrap();
    // Several times the span, in which nothing at all is sent.
    tokio::time::sleep(Duration::from_millis(300)).await;
    send.write_all(&whole[whole.len() - 1..]).await.unwrap();
    send.finish().unwrap();
    let reply = in_time("the reply", recv.read_to_end(1000)).await.unwrap();
    assert!(reply.ends_with(b"ok"), "{reply:?}");
    assert_eq!(refused(&world, Refusal::SlowFrame), 0);
}

#[tokio::test]
async fn answers_that_nobody_reads_do_not_use_up_the_streams() {
    let limits = Limits {
        stall: Duration::from_millis(300),
        streams: 4,
        streams_most: 4,
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    let mut config = member(&world);
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(1024u32.into());
    config.transport_config(Arc::new(transport));
    let (connection, _send, _recv) = admitted(&world, config).await;
    let mut unread = Vec::new();
    // More than may be open at once: each must end for the next one to begin.
    for _ in 0..12 {
        let opened = in_time("a free stream", connection.open_bi()).await;
        let (mut send, recv) = opened.unwrap();
        send.write_all(&call(ECHO, 32_768)).await.unwrap();
        send.write_all(&[&[0x14, 1, 0x80, 0, 0x80, 0][..], &[7; 32_768]].concat())
            .await
            .unwrap();
        send.finish().unwrap();
        unread.push(recv);
    }
    dropped(&world, Refusal::Stalled).await;
    let first = &mut unread[0];
    let mut answer = Vec::new();
    let ended = loop {
        match in_time("the reset", first.read_chunk(4096, true)).await {
            Ok(Some(chunk)) => answer.extend_from_slice(&chunk.bytes),
            other => break other,
        }
    };
    let exhausted = quinn::VarInt::from_u32(Code::ResourceExhausted.number());
    assert_eq!(ended, Err(quinn::ReadError::Reset(exhausted)));
    unharmed(&honest).await;
}

#[tokio::test]
async fn a_flood_of_connections_is_refused_and_the_next_place_is_given_again() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    let first = admitted(&world, member(&world)).await;
    let _second = admitted(&world, member(&world)).await;
    for _ in 0..10 {
        let error = connect(&world, member(&world)).await.unwrap_err();
        assert!(
            matches!(&error, quinn::ConnectionError::ConnectionClosed(close)
                if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED),
            "{error}"
        );
    }
    assert_eq!(refused(&world, Refusal::Connections), 10);
    unharmed(&honest).await;
    first.0.close(0u32.into(), b"");
    // Our dialer tries again until the place is free.
    let late = in_time("a place", world.dial("ns/a/agent/late")).await;
    unharmed(&late).await;
}

#[tokio::test]
async fn one_address_that_begins_too_many_handshakes_is_slowed_down() {
    let limits = Limits {
        address_rate: Rate::new(1, 6),
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let endpoint = quinn::Endpoint::client(local()).unwrap();
        let connecting = endpoint.connect_with(member(&world), world.address, "x.invalid");
        let connecting = connecting.unwrap();
        flood.spawn(async move { (connecting.await.is_ok(), endpoint) });
    }
    let mut through = 0;
    while let Some(done) = in_time("the flood", flood.join_next()).await {
        through += u64::from(done.unwrap().0);
    }
    let (asked, turned) = (
        world.server().metrics().retries.value(),
        refused(&world, Refusal::Address),
    );
    assert!(asked > 0, "first the address must be proved");
    assert!(turned > 0, "then a proved one is refused");
    assert_eq!(through + turned, 60);
    unharmed(&honest).await;
    let late = in_time("its turn", world.dial("ns/a/agent/late")).await;
    unharmed(&late).await;
}

#[tokio::test]
async fn under_pressure_an_address_must_be_proved_and_beyond_it_peers_are_refused() {
    let limits = Limits {
        handshakes: 16,
        hello: Duration::from_secs(20),
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    let metrics = world.server().metrics();
    let mut silent = Vec::new();
    while silent.len() < 3 {
        silent.push(connect(&world, member(&world)).await.unwrap());
    }
    assert_eq!(metrics.retries.value(), 0, "an eighth is not pressure yet");
    while silent.len() < 16 {
        silent.push(connect(&world, member(&world)).await.unwrap());
    }
    assert_eq!(metrics.retries.value(), 13);
    connect(&world, member(&world)).await.unwrap_err();
    assert_eq!(refused(&world, Refusal::Limit), 1);
    unharmed(&honest).await;
    drop(silent);
    let late = in_time("a place", world.dial("ns/a/agent/late")).await;
    unharmed(&late).await;
}

#[tokio::test]
async fn handshakes_that_never_go_on_are_given_up() {
    let limits = Limits {
        handshakes: 1,
        hello: Duration::from_millis(500),
        ..Limits::default()
    };
    let world = World::new(TransportKind::Quic, limits).await;
    // What a client says first, sent on by a socket that never answers.
    let tap = tokio::net::UdpSocket::bind(local()).await.unwrap();
    let slow = quinn::Endpoint::client(local()).unwrap();
    let connecting = slow.connect_with(member(&world), tap.local_addr().unwrap(), "x.invalid");
    let connecting = tokio::spawn(connecting.unwrap());
    let source = tokio::net::UdpSocket::bind(local()).await.unwrap();
    let mut packet = vec![0; 2048];
    let length = in_time("a packet", tap.recv(&mut packet)).await.unwrap();
    source
        .send_to(&packet[..length], world.address)
        .await
        .unwrap();
    in_time("the server's answer", source.recv(&mut packet))
        .await
        .unwrap();
    connect(&world, member(&world)).await.unwrap_err();
    assert_eq!(
        refused(&world, Refusal::Limit),
        1,
        "the only place is taken"
    );
    dropped(&world, Refusal::Tls).await;
    let honest = in_time("a place", world.dial("ns/a/agent/honest")).await;
    unharmed(&honest).await;
    connecting.abort();
}

#[tokio::test]
async fn a_peer_without_hello_holds_its_place_no_longer_than_it_may() {
    let limits = Limits {
        connections: 2,
        hello: Duration::from_millis(300),
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    let silent = connect(&world, client(None)).await.unwrap();
    // A stream, and half a frame: still no HELLO.
    let (mut send, _recv) = silent.open_bi().await.unwrap();
    send.write_all(&[1, 1]).await.unwrap();
    let ended = in_time("the end", silent.closed()).await;
    assert!(is_closed(&ended, 3), "{ended}");
    assert_eq!(refused(&world, Refusal::Slow), 1);
    unharmed(&honest).await;
    let late = in_time("a place", world.dial("ns/a/agent/late")).await;
    unharmed(&late).await;
}

#[tokio::test]
async fn bodies_that_are_announced_and_never_come_are_bounded_together() {
    let limits = Limits {
        call_body: 64 * 1024,
        body_budget: 128 * 1024,
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    let (connection, _send, _recv) = admitted(&world, member(&world)).await;
    let mut held = Vec::new();
    // The third is one too many, and whoever sent it may try again.
    for _ in 0..3 {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&call(ECHO, 64 * 1024)).await.unwrap();
        held.push((send, recv));
    }
    dropped(&world, Refusal::Bodies).await;
    unharmed(&honest).await;
    // What was held is free again when its stream ends.
    for (mut send, _recv) in held {
        let _ = send.reset(1u32.into());
    }
    let answered = async {
        loop {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            let whole = [&call(ECHO, 4)[..], &data(b"free")].concat();
            send.write_all(&whole).await.unwrap();
            send.finish().unwrap();
            let reply = recv.read_to_end(1000).await.unwrap();
            if reply.ends_with(b"free") {
                break;
            }
        }
    };
    in_time("room for a body", answered).await;
}

#[tokio::test]
async fn sessions_beyond_their_number_are_refused_while_none_waits() {
    let limits = Limits {
        sessions: 1,
        ..Limits::default()
    };
    let (world, honest) = stage(limits).await;
    let connection = connect(&world, member(&world)).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let hello = ClientHandshake::new(&Limits::default(), None, Instant::now()).hello(1);
    send.write_all(&hello).await.unwrap();
    let ended = in_time("the refusal", connection.closed()).await;
    assert!(is_closed(&ended, 3), "{ended}");
    assert_eq!(refused(&world, Refusal::Sessions), 1);
    unharmed(&honest).await;
}

#[tokio::test]
async fn a_frame_that_has_no_place_on_the_control_stream_ends_the_connection() {
    let (world, honest) = stage(Limits::default()).await;
    let (connection, mut send, _recv) = admitted(&world, member(&world)).await;
    send.write_all(&data(b"payload")).await.unwrap();
    let ended = in_time("the end", connection.closed()).await;
    assert!(is_closed(&ended, 2), "{ended}");
    assert_eq!(refused(&world, Refusal::Protocol), 1);
    unharmed(&honest).await;
}
