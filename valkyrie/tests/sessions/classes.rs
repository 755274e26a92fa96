//! What each class gets while others use the connection up; on every transport.
//! Must not assert on time: calls are answered while bulk is under way, or they are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use valkyrie::endpoint::{Class, Limits, Session, TransportKind};

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
    for kind in [
        TransportKind::Memory,
        TransportKind::Quic,
        TransportKind::Tcp,
    ] {
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
    for kind in [
        TransportKind::Memory,
        TransportKind::Quic,
        TransportKind::Tcp,
    ] {
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
    for kind in [
        TransportKind::Memory,
        TransportKind::Quic,
        TransportKind::Tcp,
    ] {
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
