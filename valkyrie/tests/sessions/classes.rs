//! What each class gets while others use the connection up; on every transport.
//! Must not assert on time: calls are answered while bulk is under way, or they are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use valkyrie::endpoint::{Class, Code, Limits, QosPolicy, Session, TransportKind};
use valkyrie::limits::Rate;
use valkyrie::metrics::{Metrics, Refusal};

use crate::service::*;
use crate::world::*;

/// Opens so many streams and writes on each for ever; counts the messages that were taken.
fn saturate(
    session: &Session,
    method: valkyrie::endpoint::Method,
    streams: usize,
    read: bool,
) -> (tokio::task::JoinSet<()>, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..streams {
        let (session, taken) = (session.clone(), taken.clone());
        tasks.spawn(async move {
            let opened = session.open(method, Bytes::new(), Class::Bulk).await;
            let (mut tx, mut rx) = opened.unwrap();
            let message = Bytes::from(vec![7; 256 * 1024]);
            let writing = async {
                loop {
                    tx.send(message.clone()).await.unwrap();
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            };
            let reading = async {
                while read && rx.recv().await.unwrap().is_some() {}
                std::future::pending::<()>().await;
            };
            tokio::join!(writing, reading);
        });
    }
    (tasks, taken)
}

async fn settled(taken: &AtomicU64) {
    in_time("bulk to begin", async {
        while taken.load(Ordering::Relaxed) < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn control_calls_go_on_while_bulk_saturates() {
    for kind in TransportKind::ALL {
        let world = World::new(kind, Limits::default()).await;
        let session = world.dial("a").await;
        let (tasks, taken) = saturate(&session, ECHO_STREAM, 20, true);
        settled(&taken).await;
        let before = taken.load(Ordering::Relaxed);
        for _ in 0..200 {
            let call = session.call(
                ECHO,
                Bytes::from_static(b"now"),
                options().class(Class::Control),
            );
            assert_eq!(in_time("the answer", call).await.unwrap(), "now");
        }
        in_time("bulk to go on", async {
            while taken.load(Ordering::Relaxed) <= before {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        drop(tasks);
    }
}

#[tokio::test]
async fn a_hundred_bulk_streams_that_nobody_reads_leave_room_for_calls() {
    for kind in TransportKind::ALL {
        let world = World::new(kind, Limits::default()).await;
        let session = world.dial("a").await;
        let (tasks, _) = saturate(&session, STALL_STREAM, 100, false);
        let mut begun = world.service.begun.subscribe();
        in_time("the streams", begun.wait_for(|count| *count == 100))
            .await
            .unwrap();
        for _ in 0..50 {
            let body = Bytes::from(vec![1; 60_000]);
            let call = session.call(ECHO, body.clone(), options().class(Class::Control));
            assert_eq!(in_time("the answer", call).await.unwrap(), body, "{kind:?}");
        }
        drop(tasks);
    }
}

#[tokio::test]
async fn a_bulk_stream_that_nobody_reads_does_not_stop_another() {
    for kind in TransportKind::ALL {
        let world = World::new(kind, Limits::default()).await;
        let session = world.dial("a").await;
        let (stalled, _) = saturate(&session, STALL_STREAM, 3, false);
        let mut begun = world.service.begun.subscribe();
        in_time("the streams", begun.wait_for(|count| *count == 3))
            .await
            .unwrap();
        let opened = session.open(ECHO_STREAM, Bytes::new(), Class::Bulk).await;
        let (mut tx, mut rx) = opened.unwrap();
        assert_eq!(in_time("the head", rx.recv()).await.unwrap().unwrap(), "");
        for number in 0..40_u8 {
            let message = Bytes::from(vec![number; 200_000]);
            let sent = in_time("leave to send", tx.send(message.clone())).await;
            sent.unwrap();
            let back = in_time("the echo", rx.recv()).await;
            assert_eq!(back.unwrap().unwrap(), message, "{kind:?}");
        }
        drop(stalled);
    }
}

/// Calls whose bodies and replies are as large as may be, as many at once as the peer holds.
fn large_calls(session: &Session, class: Class, count: usize) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let session = session.clone();
        tasks.spawn(async move {
            let body = Bytes::from(vec![3; 1024 * 1024]);
            let options = options().class(class);
            let reply = session.call(ECHO, body.clone(), options).await.unwrap();
            assert!(reply == body);
        });
    }
    tasks
}

#[tokio::test]
async fn calls_and_replies_ask_for_leave_and_give_it_back() {
    for kind in TransportKind::ALL {
        for class in [Class::Job, Class::Log, Class::Bulk] {
            let metrics = Arc::new(Metrics::default());
            let world = World::new(kind, Limits::default()).await;
            eprintln!(
                "DEBUG {kind:?} {class:?} {:?}",
                std::time::SystemTime::now()
            );
            let dialer = world.dialer("a").metrics(metrics.clone());
            let session = dialer.connect(std::time::Duration::from_secs(50)).await;
            let session = session.unwrap();
            let calls = large_calls(&session, class, 7);
            for _ in 0..20 {
                let call = session.call(ECHO, Bytes::new(), options().class(Class::Control));
                in_time("a control call", call).await.unwrap();
            }
            in_time("the calls", calls.join_all()).await;
            // Each side has asked for each of its pieces, and nothing is under way any more.
            let server = world.server().metrics();
            for side in [&metrics, &server] {
                let traffic = side.traffic(kind, class);
                assert!(traffic.queued.count() >= 7 * 16, "{kind:?} {class:?}");
                assert!(traffic.round_trip.count() > 0, "{kind:?} {class:?}");
                assert!(traffic.credit.value() > 0);
                in_time("the replies to be read", async {
                    while traffic.in_flight.value() != 0 || traffic.open.value() != 0 {
                        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                    }
                })
                .await;
                assert_eq!(traffic.bytes_sent.value(), 7 * 1024 * 1024);
                assert_eq!(traffic.bytes_received.value(), 7 * 1024 * 1024);
            }
            let control = metrics.traffic(kind, Class::Control);
            assert_eq!(control.queued.count(), 0, "what is small asks nobody");
            assert_eq!(control.frames_sent.value(), 20);
        }
    }
}

#[tokio::test]
async fn a_tenant_that_has_used_its_rate_up_waits_alone() {
    let piece = 64 * 1024;
    let qos = QosPolicy {
        // A burst that does not come back within the test.
        tenant: Some(Rate::new(1, 2 * piece)),
        ..QosPolicy::default()
    };
    let world = World::new(TransportKind::Tcp, Limits::default()).await;
    let dialer = world.dialer("a").qos(qos);
    let session = dialer.connect(std::time::Duration::from_secs(50)).await;
    let session = session.unwrap();
    let body = Bytes::from(vec![1; piece as usize - 1024]);
    let call = |tenant| {
        let options = options().class(Class::Bulk).tenant(tenant);
        session.call(ECHO, body.clone(), options)
    };
    in_time("the first call", call(1)).await.unwrap();
    let third = async {
        call(1).await.unwrap();
        call(1).await.unwrap();
    };
    let others = async {
        call(2).await.unwrap();
        call(2).await.unwrap();
        echo(&session, "unlimited").await.unwrap();
    };
    tokio::select! {
        () = third => panic!("the first tenant has sent more than its rate"),
        () = in_time("the second tenant", others) => {}
    }
}

#[tokio::test]
async fn more_than_may_wait_are_refused_at_once() {
    let qos = QosPolicy {
        waiting: 2,
        tenant: Some(Rate::new(1, 4096)),
        ..QosPolicy::default()
    };
    let metrics = Arc::new(Metrics::default());
    let world = World::new(TransportKind::Memory, Limits::default()).await;
    let dialer = world.dialer("a").qos(qos).metrics(metrics.clone());
    let session = dialer.connect(std::time::Duration::from_secs(50)).await;
    let session = session.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let session = session.clone();
        calls.spawn(async move {
            let body = Bytes::from(vec![1; 4096 - 64]);
            let options = options().class(Class::Bulk).tenant(1);
            session.call(ECHO, body, options).await
        });
    }
    // One is sent, two wait, one is refused.
    let mut outcomes = Vec::new();
    while outcomes.len() < 2 {
        let ended = in_time("an outcome", calls.join_next()).await;
        outcomes.push(ended.unwrap().unwrap().map_err(|error| error.code));
    }
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.contains(&Err(Code::ResourceExhausted)));
    assert_eq!(metrics.refused(Refusal::Queue).value(), 1);
    assert_eq!(echo(&session, "others").await.unwrap(), "others");
}
