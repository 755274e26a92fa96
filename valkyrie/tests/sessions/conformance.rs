//! What every transport must do, run over each of them.
//! Must not use anything that only one transport has.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use valkyrie::endpoint::{
    CallError, CallOptions, Class, Code, Limits, Link, OpenOptions, Peer, TraceContext,
    TransportKind,
};

use crate::lab;
use crate::notices::*;
use crate::service::*;
use crate::world::*;

macro_rules! over_each_transport {
    ($($name:ident)*) => {
        on_stage! { memory Stage::from(TransportKind::Memory); $($name)* }
        on_stage! { quic Stage::from(TransportKind::Quic); $($name)* }
        on_stage! { tcp Stage::from(TransportKind::Tcp); $($name)* }
        on_stage! { websocket Stage::from(TransportKind::WebSocket); $($name)* }
    };
}

/// Through a relay with 50 ms to and fro, over QUIC with one packet in a hundred lost.
macro_rules! far_away {
    ($($name:ident)*) => {
        on_stage! { far_quic Stage::far(TransportKind::Quic); $($name)* }
        on_stage! { far_tcp Stage::far(TransportKind::Tcp); $($name)* }
        on_stage! { far_websocket Stage::far(TransportKind::WebSocket); $($name)* }
    };
}

/// The same way with packets of TCP lost, too, in a lab.
macro_rules! lossy {
    ($($name:ident)*) => {
        on_stage! { lossy_tcp Stage::lossy(TransportKind::Tcp), !lab::is_missing(); $($name)* }
        on_stage! {
            lossy_websocket Stage::lossy(TransportKind::WebSocket), !lab::is_missing(); $($name)*
        }
    };
}

macro_rules! on_stage {
    ($module:ident $stage:expr; $($name:ident)*) => {
        on_stage! { $module $stage, true; $($name)* }
    };
    ($module:ident $stage:expr, $possible:expr; $($name:ident)*) => {
        mod $module {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                if $possible {
                    super::$name($stage).await;
                }
            })*
        }
    };
}

over_each_transport! {
    a_call_is_answered_with_the_peers_identity_known
    bodies_up_to_the_limit_arrive_whole_and_larger_ones_fail
    an_error_arrives_as_it_was_made
    the_server_calls_the_client_on_the_same_session
    a_call_past_its_deadline_fails_and_is_cancelled_at_the_peer
    a_dropped_call_is_cancelled_at_the_peer
    a_panic_in_a_handler_fails_only_its_call
    a_stream_carries_messages_both_ways_with_their_borders
    many_messages_at_once_arrive_as_if_sent_one_by_one
    a_handlers_error_ends_its_stream_in_words
    a_dropped_stream_is_an_error_and_never_a_silent_end
    a_stalled_reader_blocks_its_sender_with_bounded_memory
    a_message_over_the_limit_is_refused_before_it_leaves
    many_calls_at_once_are_all_answered
    a_peer_that_uses_its_streams_gets_more
    a_refused_peer_hears_the_reason
    a_closed_session_is_down_on_both_sides
    a_drain_lets_the_running_call_end
    a_dialer_without_a_handler_refuses_calls
    the_last_handle_ends_the_session
    another_server_than_expected_is_not_spoken_to
    notices_arrive_in_order_in_both_directions
    live_logs_never_wait_and_what_is_dropped_is_marked
    other_notices_wait_or_are_refused_and_never_dropped
    a_notice_over_the_limit_is_refused_before_it_leaves
    a_drain_lets_the_notices_arrive
    a_trace_goes_on_through_nested_calls_streams_and_notices
}

// Without those that move megabytes: a lossy way would take its time for them.
far_away! {
    a_call_is_answered_with_the_peers_identity_known
    an_error_arrives_as_it_was_made
    the_server_calls_the_client_on_the_same_session
    a_call_past_its_deadline_fails_and_is_cancelled_at_the_peer
    a_dropped_call_is_cancelled_at_the_peer
    a_panic_in_a_handler_fails_only_its_call
    a_stream_carries_messages_both_ways_with_their_borders
    many_messages_at_once_arrive_as_if_sent_one_by_one
    a_handlers_error_ends_its_stream_in_words
    a_dropped_stream_is_an_error_and_never_a_silent_end
    a_message_over_the_limit_is_refused_before_it_leaves
    many_calls_at_once_are_all_answered
    a_refused_peer_hears_the_reason
    a_closed_session_is_down_on_both_sides
    a_drain_lets_the_running_call_end
    a_dialer_without_a_handler_refuses_calls
    the_last_handle_ends_the_session
    another_server_than_expected_is_not_spoken_to
    notices_arrive_in_order_in_both_directions
    a_notice_over_the_limit_is_refused_before_it_leaves
    a_drain_lets_the_notices_arrive
    a_trace_goes_on_through_nested_calls_streams_and_notices
}

// What a loss can change: order, borders, ends, and who waits for whom.
lossy! {
    a_call_is_answered_with_the_peers_identity_known
    the_server_calls_the_client_on_the_same_session
    a_call_past_its_deadline_fails_and_is_cancelled_at_the_peer
    a_stream_carries_messages_both_ways_with_their_borders
    many_messages_at_once_arrive_as_if_sent_one_by_one
    a_dropped_stream_is_an_error_and_never_a_silent_end
    many_calls_at_once_are_all_answered
    a_closed_session_is_down_on_both_sides
    a_drain_lets_the_running_call_end
    notices_arrive_in_order_in_both_directions
}

async fn a_call_is_answered_with_the_peers_identity_known(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("ns/a/agent/1").await;
    assert_eq!(echo(&session, "hello").await.unwrap(), "hello");
    assert_eq!(session.transport(), stage.kind);
    assert_eq!(session.peer(), &Peer::Spiffe(world.id("operator")));
    let ups = world.service.ups.lock().clone();
    assert_eq!(
        ups,
        [(session.id(), Peer::Spiffe(world.id("ns/a/agent/1")))]
    );
    assert_eq!(*session.link().borrow(), Link::Up);
}

async fn bodies_up_to_the_limit_arrive_whole_and_larger_ones_fail(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    for length in [0, 1, 65_535, 262_144, 262_145, world.limits.call_body] {
        let body = Bytes::from((0..length).map(|at| at as u8).collect::<Vec<_>>());
        let reply = session.call(ECHO, body.clone(), options()).await.unwrap();
        assert!(reply == body, "{length} bytes came back changed");
    }
    let large = Bytes::from(vec![0; world.limits.call_body + 1]);
    let error = session.call(ECHO, large, options()).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted);
    assert_eq!(echo(&session, "still").await.unwrap(), "still");
}

async fn an_error_arrives_as_it_was_made(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let expected = CallError::new(Code::FailedPrecondition, "old fence")
        .retry_after(Duration::from_millis(1500));
    assert_eq!(call(&session, FAIL).await, Err(expected));
}

async fn the_server_calls_the_client_on_the_same_session(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let client = Service::new();
    let dialer = world.dialer("a").handler(client.clone());
    let session = dialer.connect(Duration::from_secs(50)).await.unwrap();
    let body = Bytes::from_static(b"there and back");
    assert_eq!(
        session
            .call(CALL_BACK, body.clone(), options())
            .await
            .unwrap(),
        body
    );
    assert_eq!(client.runs.load(Ordering::SeqCst), 1);
    let accepted = world.service.sessions.lock()[0].clone();
    assert_eq!(echo(&accepted, "direct").await.unwrap(), "direct");
}

async fn a_call_past_its_deadline_fails_and_is_cancelled_at_the_peer(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let short = CallOptions::new(Duration::from_millis(200));
    let error = session.call(HANG, Bytes::new(), short).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    let mut cancelled = world.service.cancelled.subscribe();
    in_time("the cancellation", cancelled.wait_for(|count| *count == 1))
        .await
        .unwrap();
}

async fn a_dropped_call_is_cancelled_at_the_peer(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let mut begun = world.service.begun.subscribe();
    tokio::select! {
        _ = call(&session, HANG) => panic!("it never answers"),
        _ = begun.wait_for(|count| *count == 1) => {}
    }
    let mut cancelled = world.service.cancelled.subscribe();
    in_time("the cancellation", cancelled.wait_for(|count| *count == 1))
        .await
        .unwrap();
}

async fn a_panic_in_a_handler_fails_only_its_call(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    assert_eq!(
        call(&session, PANIC).await.unwrap_err().code,
        Code::Internal
    );
    assert_eq!(echo(&session, "alive").await.unwrap(), "alive");
}

async fn a_stream_carries_messages_both_ways_with_their_borders(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let head = Bytes::from_static(b"head");
    let (mut tx, mut rx) = session
        .open(ECHO_STREAM, head.clone(), Class::Log)
        .await
        .unwrap();
    assert_eq!(rx.recv().await.unwrap(), Some(head));
    for length in [0, 1, 100_000, world.limits.data_frame] {
        let message = Bytes::from(vec![7; length]);
        tx.send(message.clone()).await.unwrap();
        assert!(rx.recv().await.unwrap() == Some(message), "{length} bytes");
    }
    tx.finish().await.unwrap();
    assert_eq!(rx.recv().await.unwrap(), None);
}

async fn many_messages_at_once_arrive_as_if_sent_one_by_one(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let (mut tx, mut rx) = session
        .open(ECHO_STREAM, Bytes::from_static(b"head"), Class::Log)
        .await
        .unwrap();
    // Small ones, an empty one, and one that is larger than what is written at once.
    let sizes = (0..300).chain([0, 200_000, 1]);
    let messages: Vec<Bytes> = sizes
        .map(|size| Bytes::from(vec![size as u8; size]))
        .collect();
    let sending = async {
        tx.send_all(messages.clone()).await.unwrap();
        let cap = Limits::default().data_frame;
        let large = [Bytes::from_static(b"last"), Bytes::from(vec![0; cap + 1])];
        let error = tx.send_all(large).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        tx.finish().await.unwrap();
    };
    let receiving = async {
        let mut received = Vec::new();
        loop {
            let before = received.len();
            let count = rx.recv_many(&mut received, 7).await.unwrap();
            assert_eq!(received.len(), before + count);
            assert!(count <= 7);
            if count == 0 {
                return received;
            }
        }
    };
    let (_, received) = in_time("the messages", async { tokio::join!(sending, receiving) }).await;
    let head = Bytes::from_static(b"head");
    let last = Bytes::from_static(b"last");
    let expected: Vec<Bytes> = [head].into_iter().chain(messages).chain([last]).collect();
    assert_eq!(received, expected);
}

async fn a_handlers_error_ends_its_stream_in_words(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let (_tx, mut rx) = session
        .open(FAIL_STREAM, Bytes::new(), Class::Log)
        .await
        .unwrap();
    let error = in_time("the error", rx.recv()).await.unwrap_err();
    assert_eq!(error, CallError::new(Code::NotFound, "no such log"));
}

async fn a_dropped_stream_is_an_error_and_never_a_silent_end(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let (_tx, mut rx) = session
        .open(DROP_STREAM, Bytes::new(), Class::Log)
        .await
        .unwrap();
    assert_eq!(
        in_time("the reset", rx.recv()).await.unwrap_err().code,
        Code::Cancelled
    );
}

async fn a_stalled_reader_blocks_its_sender_with_bounded_memory(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let (mut tx, mut rx) = session
        .open(STALL_STREAM, Bytes::new(), Class::Bulk)
        .await
        .unwrap();
    let (message, total) = (Bytes::from(vec![1; 65_536]), 512);
    let (counted, mut sent) = tokio::sync::watch::channel(0_u64);
    let sender = tokio::spawn(async move {
        for _ in 0..total {
            tx.send(message.clone()).await?;
            counted.send_modify(|count| *count += 65_536);
        }
        tx.finish().await
    });
    // Quiet for a while: what went through until then fits the windows, far from all of it.
    while tokio::time::timeout(Duration::from_millis(400), sent.changed())
        .await
        .is_ok()
    {}
    assert!(
        *sent.borrow() <= 8 * 1024 * 1024,
        "{} bytes were taken",
        *sent.borrow()
    );
    assert!(!sender.is_finished());
    // Control traffic is not held up by it.
    assert_eq!(
        in_time("an echo beside it", echo(&session, "hi"))
            .await
            .unwrap(),
        "hi"
    );
    world.service.release();
    in_time("the sender", sender).await.unwrap().unwrap();
    let answer = in_time("the count", rx.recv()).await.unwrap().unwrap();
    assert_eq!(
        u64::from_be_bytes(answer.as_ref().try_into().unwrap()),
        total * 65_536
    );
}

async fn a_message_over_the_limit_is_refused_before_it_leaves(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let (mut tx, mut rx) = session
        .open(ECHO_STREAM, Bytes::new(), Class::Log)
        .await
        .unwrap();
    rx.recv().await.unwrap();
    let large = Bytes::from(vec![0; world.limits.data_frame + 1]);
    assert_eq!(
        tx.send(large).await.unwrap_err().code,
        Code::InvalidArgument
    );
    tx.send(Bytes::from_static(b"fits")).await.unwrap();
    assert_eq!(rx.recv().await.unwrap().unwrap(), "fits");
}

async fn many_calls_at_once_are_all_answered(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..500_u32 {
        let session = session.clone();
        calls.spawn(async move {
            let body = Bytes::copy_from_slice(&number.to_be_bytes());
            session.call(ECHO, body.clone(), options()).await.unwrap() == body
        });
    }
    let answers = in_time("all answers", calls.join_all()).await;
    assert_eq!(
        (answers.len(), answers.iter().all(|same| *same)),
        (500, true)
    );
    assert!(world.server().metrics().calls_ok.value() >= 499);
}

async fn a_peer_that_uses_its_streams_gets_more(stage: Stage) {
    let limits = Limits::default();
    let world = World::new(stage, limits.clone()).await;
    let session = world.dial("a").await;
    let mut open = Vec::new();
    for _ in 0..limits.streams * 2 {
        let opening = session.open(STALL_STREAM, Bytes::new(), Class::Job);
        open.push(in_time("a stream", opening).await.unwrap());
    }
    let call = session.call(ECHO, Bytes::from_static(b"room"), options());
    assert_eq!(in_time("the answer", call).await.unwrap(), "room");
}

async fn a_refused_peer_hears_the_reason(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let error = CallError::new(Code::PermissionDenied, "not one of ours");
    *world.service.refuse.lock() = Some(error.clone());
    let result = world.dialer("a").connect(Duration::from_secs(50)).await;
    assert_eq!(result.unwrap_err(), error);
}

async fn a_closed_session_is_down_on_both_sides(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let (first, second) = (world.dial("a").await, world.dial("b").await);
    first.close("done");
    in_time("the end", first.closed()).await;
    let mut downs = world.service.downs.subscribe();
    let id = first.id();
    in_time("down", downs.wait_for(|downs| downs.contains(&id)))
        .await
        .unwrap();
    let error = echo(&first, "late").await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    // The server ends the other one.
    let accepted = world.service.sessions.lock()[1].clone();
    accepted.close("bye");
    in_time("the end", second.closed()).await;
    assert_eq!(*second.link().borrow(), Link::Down);
}

async fn a_drain_lets_the_running_call_end(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let running = {
        let session = session.clone();
        let body = Bytes::from_static(b"running");
        tokio::spawn(async move { session.call(GATED, body, options()).await })
    };
    let mut begun = world.service.begun.subscribe();
    in_time("the call", begun.wait_for(|count| *count == 1))
        .await
        .unwrap();
    let draining = {
        let session = session.clone();
        tokio::spawn(async move { session.drain(Duration::from_secs(50)).await })
    };
    tokio::task::yield_now().await;
    world.service.release();
    assert_eq!(
        in_time("the reply", running).await.unwrap().unwrap(),
        "running"
    );
    in_time("the drain", draining).await.unwrap();
    assert_eq!(*session.link().borrow(), Link::Down);
}

async fn a_dialer_without_a_handler_refuses_calls(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let _session = world.dial("a").await;
    let accepted = world.service.sessions.lock()[0].clone();
    assert_eq!(
        echo(&accepted, "hi").await.unwrap_err().code,
        Code::Unimplemented
    );
}

async fn the_last_handle_ends_the_session(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    let id = session.id();
    drop(session);
    let mut downs = world.service.downs.subscribe();
    in_time("down", downs.wait_for(|downs| downs.contains(&id)))
        .await
        .unwrap();
}

async fn another_server_than_expected_is_not_spoken_to(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let dialer = world.dialer("a").expect_peer(world.id("someone-else"));
    let error = dialer.connect(Duration::from_secs(50)).await.unwrap_err();
    assert_eq!(error.code, Code::Unauthenticated);
    assert!(world.service.ups.lock().is_empty());
}

async fn a_trace_goes_on_through_nested_calls_streams_and_notices(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let client = Service::new();
    let dialer = world.dialer("a").handler(client.clone());
    let session = dialer.connect(Duration::from_secs(50)).await.unwrap();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = TraceContext::parse(parent, "congo=t61").unwrap();
    let options = options().trace(trace.clone());
    let body = Bytes::from_static(b"traced");
    session.call(CALL_BACK, body, options).await.unwrap();
    let opening = OpenOptions {
        trace: Some(trace.clone()),
        ..OpenOptions::new(Class::Log)
    };
    let (_tx, mut rx) = session
        .open_with(ECHO_STREAM, Bytes::new(), opening)
        .await
        .unwrap();
    rx.recv().await.unwrap();
    assert_eq!(*world.service.traces.lock(), vec![Some(trace.clone()); 2]);
    // What the handler has started in turn, without a word about the trace.
    told(&client, 1).await;
    assert_eq!(*client.traces.lock(), vec![Some(trace); 2]);
    assert_eq!(echo(&session, "plain").await.unwrap(), "plain");
    assert_eq!(world.service.traces.lock().last(), Some(&None));
}
