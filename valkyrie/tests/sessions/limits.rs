//! Limits that no other test attacks: what goes over each is refused, counted by its reason, and
//! leaves the others alone. Over real QUIC on loopback.
//! Must not rely on our own dialer where it would refuse to do what an attacker does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::task::JoinSet;
use valkyrie::endpoint::{CallError, Class, Code, Limits, TransportKind};
use valkyrie::metrics::{Metrics, Refusal};
use valkyrie::session::ClientHandshake;
use valkyrie::wire::message::{Failure, Framed, Goaway, Hello};
use valkyrie::wire::{Caps, Decoder, Frame, FrameType, frame};

use crate::attacks::{admitted, call, member, open_stream, refused, stage, unharmed};
use crate::intruders::{client, is_closed};
use crate::service::*;
use crate::world::*;

/// The error that is all there is in these bytes.
pub(crate) fn failure(bytes: Vec<u8>, kind: FrameType) -> CallError {
    let mut decoder = Decoder::new(Caps {
        control: 65_536,
        data: 65_536,
    });
    decoder.push(bytes.into());
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(frame.kind, kind);
    assert_eq!(decoder.next_frame(), Ok(None));
    Failure::from_frame(frame).unwrap().into()
}

/// A stream that is open until it is finished, since it echoes.
async fn held(connection: &quinn::Connection) -> (quinn::SendStream, quinn::RecvStream) {
    let opened = in_time("a stream", connection.open_bi()).await;
    let (mut send, mut recv) = opened.unwrap();
    send.write_all(&open_stream()).await.unwrap();
    echoed(&mut recv).await;
    (send, recv)
}

/// An empty message comes back.
async fn echoed(recv: &mut quinn::RecvStream) {
    let mut answer = [0; 3];
    let read = in_time("the echo", recv.read_exact(&mut answer)).await;
    read.unwrap();
    assert_eq!(answer, [0x14, 1, 0]);
}

#[tokio::test]
async fn a_peer_that_holds_all_its_streams_waits_for_the_next() {
    // Those it begins with when it gets no more, and those that they may grow to.
    for (streams, streams_most) in [(4, 4), (4, 12)] {
        let limits = Limits {
            streams,
            streams_most,
            ..Limits::default()
        };
        let (world, honest) = stage(limits).await;
        let (connection, _send, _recv) = admitted(&world, member(&world)).await;
        let mut open = Vec::new();
        // The control stream is one of them.
        for _ in 1..streams_most {
            open.push(held(&connection).await);
        }
        // More would have been granted by the time that this is answered.
        let (send, recv) = open.last_mut().unwrap();
        send.write_all(&[0x14, 1, 0]).await.unwrap();
        echoed(recv).await;
        let mut beyond = Box::pin(connection.open_bi());
        assert!((&mut beyond).now_or_never().is_none(), "{streams_most}");
        unharmed(&honest).await;
        // quinn gives places back a few at once, so more than one.
        for (mut send, mut recv) in open.drain(..2) {
            send.finish().unwrap();
            in_time("the end", recv.read_to_end(100)).await.unwrap();
        }
        in_time("its turn", beyond).await.unwrap();
        assert_eq!(connection.close_reason(), None);
    }
}

#[tokio::test]
async fn a_flood_of_pongs_or_goaways_ends_the_connection_like_one_of_pings() {
    let (world, honest) = stage(Limits::default()).await;
    let pong = Frame {
        kind: FrameType::Pong,
        payload: Bytes::from_static(&[7; 8]),
    };
    let goaway = Goaway {
        deadline_ms: 60_000,
        ..Goaway::default()
    };
    for (before, frame) in [pong, goaway.to_frame()].into_iter().enumerate() {
        let (connection, mut send, _recv) = admitted(&world, member(&world)).await;
        let flood = async {
            while send.write_all(&frame.to_bytes()).await.is_ok() {}
            connection.closed().await
        };
        let ended = in_time("the end of the flood", flood).await;
        assert!(is_closed(&ended, 8), "{:?}: {ended}", frame.kind);
        assert_eq!(refused(&world, Refusal::ControlFlood), before as u64 + 1);
    }
    unharmed(&honest).await;
}

#[tokio::test]
async fn a_control_frame_over_its_cap_ends_its_stream_or_the_connection() {
    let (world, honest) = stage(Limits::default()).await;
    let large = world.limits.control_frame + 1;
    let (connection, mut control, _recv) = admitted(&world, member(&world)).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let head = frame::header(FrameType::Call, large);
    send.write_all(&head).await.unwrap();
    let stopped = in_time("the stop", send.stopped()).await.unwrap();
    let exhausted = Code::ResourceExhausted.number();
    assert_eq!(stopped, Some(exhausted.into()));
    assert_eq!(refused(&world, Refusal::Oversize), 1);
    assert_eq!(connection.close_reason(), None, "the connection goes on");
    let ping = frame::header(FrameType::Ping, large);
    control.write_all(&ping).await.unwrap();
    let ended = in_time("the end", connection.closed()).await;
    assert!(is_closed(&ended, 2), "{ended}");
    assert_eq!(refused(&world, Refusal::Oversize), 2);
    unharmed(&honest).await;
}

#[tokio::test]
async fn bodies_and_frames_over_the_limit_are_refused_before_they_come() {
    let (world, honest) = stage(Limits::default()).await;
    let limits = &world.limits;
    let exhausted = Code::ResourceExhausted;
    let peers = [
        (member(&world), limits.call_body, limits.data_frame),
        (client(None), limits.anonymous_frame, limits.anonymous_frame),
    ];
    for (before, (config, body, data)) in peers.into_iter().enumerate() {
        let before = before as u64 * 2;
        let (connection, _send, _recv) = admitted(&world, config).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&call(ECHO, body as u64 + 1)).await.unwrap();
        let answer = in_time("the refusal", recv.read_to_end(1000)).await;
        let error = failure(answer.unwrap(), FrameType::Fail);
        assert_eq!((error.code, error.retryable), (exhausted, false));
        assert_eq!(refused(&world, Refusal::Oversize), before + 1);
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        let large = frame::header(FrameType::Data, data + 1);
        send.write_all(&[call(ECHO, body as u64), large].concat())
            .await
            .unwrap();
        let stopped = in_time("the stop", send.stopped()).await.unwrap();
        assert_eq!(stopped, Some(exhausted.number().into()));
        assert_eq!(refused(&world, Refusal::Oversize), before + 2);
        assert_eq!(connection.close_reason(), None, "the connection goes on");
    }
    unharmed(&honest).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_closed_though_its_packets_come() {
    let (world, honest) = stage(quick()).await;
    let mut config = member(&world);
    let mut transport = quinn::TransportConfig::default();
    // QUIC itself must not end it.
    transport.keep_alive_interval(Some(Duration::from_millis(100)));
    config.transport_config(Arc::new(transport));
    let (connection, _send, _recv) = admitted(&world, config).await;
    let ended = in_time("the end", connection.closed()).await;
    assert!(is_closed(&ended, 4), "{ended}");
    unharmed(&honest).await;
}

#[tokio::test]
async fn notices_beyond_those_that_may_wait_are_refused_and_counted() {
    let limits = Limits {
        waiting_notices: 2,
        ..Limits::default()
    };
    let world = World::new(TransportKind::Quic, limits).await;
    let metrics = Arc::new(Metrics::default());
    let dialer = world.dialer("a").metrics(metrics.clone());
    let session = dialer.connect(options().deadline).await.unwrap();
    // The handler takes none, so that in the end the senders wait.
    let (mut senders, mut refusals) = (JoinSet::new(), 0);
    let flood = async {
        while refusals == 0 {
            let session = session.clone();
            let body = Bytes::from(vec![0; 100_000]);
            senders.spawn(async move { session.notify(Class::Job, TOLD_GATED, body).await });
            tokio::task::yield_now().await;
            while let Some(ended) = senders.try_join_next() {
                let Err(error) = ended.unwrap() else { continue };
                assert_eq!(error.code, Code::ResourceExhausted);
                assert!(error.retryable);
                refusals += 1;
            }
        }
    };
    in_time("a refusal", flood).await;
    world.service.gate.add_permits(10_000);
    while let Some(ended) = in_time("the senders", senders.join_next()).await {
        refusals += u64::from(ended.unwrap().is_err());
    }
    assert_eq!(metrics.refused(Refusal::Queue).value(), refusals);
    unharmed(&session).await;
}

#[tokio::test]
async fn live_logs_that_are_dropped_are_counted() {
    let limits = Limits::default();
    let limits = Limits {
        notices: limits.data_frame + 64,
        ..limits
    };
    let world = World::new(TransportKind::Quic, limits).await;
    let metrics = Arc::new(Metrics::default());
    let dialer = world.dialer("a").metrics(metrics.clone());
    let session = dialer.connect(options().deadline).await.unwrap();
    let traffic = metrics.traffic(TransportKind::Quic, Class::Log);
    let (mut told, body) = (0, Bytes::from(vec![0; 50_000]));
    // The handler takes none, so that in the end the queue is full.
    let flood = async {
        while traffic.shed_messages.value() == 0 {
            let notice = session.notify(Class::Log, TOLD_GATED, body.clone());
            notice.await.unwrap();
            told += 1;
            tokio::task::yield_now().await;
        }
    };
    in_time("a drop", flood).await;
    assert_eq!(traffic.shed_bytes.value(), 50_000);
    world.service.gate.add_permits(10_000);
    crate::notices::told(&world.service, told - 1).await;
    assert_eq!(world.server().metrics().notices.value(), told as u64 - 1);
    unharmed(&session).await;
}

/// Says this first; gives the refusal and how the connection ended.
async fn turned_away(world: &World, hello: Bytes) -> (CallError, quinn::ConnectionError) {
    let endpoint = quinn::Endpoint::client(local()).unwrap();
    let connecting = endpoint.connect_with(member(world), world.address, "x.invalid");
    let connection = connecting.unwrap().await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&hello).await.unwrap();
    let answer = in_time("the refusal", recv.read_to_end(1000)).await;
    let error = failure(answer.unwrap(), FrameType::Refuse);
    (error, in_time("the end", connection.closed()).await)
}

#[tokio::test]
async fn a_peer_of_another_version_is_refused_and_counted() {
    let (world, honest) = stage(Limits::default()).await;
    let hello = Hello {
        min_version: 2,
        max_version: 9,
        ..Hello::default()
    };
    let (error, ended) = turned_away(&world, hello.to_frame().to_bytes()).await;
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert!(is_closed(&ended, 3), "{ended}");
    assert_eq!(refused(&world, Refusal::Version), 1);
    unharmed(&honest).await;
}

#[tokio::test]
async fn a_peer_that_the_handler_refuses_is_counted_and_keeps_no_place() {
    let limits = Limits {
        sessions: 1,
        ..Limits::default()
    };
    let world = World::new(TransportKind::Quic, limits).await;
    let reason = CallError::new(Code::PermissionDenied, "not one of ours");
    *world.service.refuse.lock() = Some(reason.clone());
    let hello = ClientHandshake::new(&Limits::default(), None, Instant::now()).hello(1);
    let (error, ended) = turned_away(&world, hello).await;
    assert_eq!(error, reason);
    assert!(is_closed(&ended, 3), "{ended}");
    assert_eq!(refused(&world, Refusal::Handler), 1);
    *world.service.refuse.lock() = None;
    // There is one place only.
    unharmed(&world.dial("ns/a/agent/honest").await).await;
}
