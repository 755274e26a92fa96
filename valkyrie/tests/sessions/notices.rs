//! Messages without an answer, over each transport: order, shedding, waiting, drains.
//! Must not assert on time: every wait is for an event.

use bytes::Bytes;
use valkyrie::endpoint::{
    Class, Code, Dropped, Limits, Link, Method, Notice, Session, TransportKind,
};

use crate::service::*;
use crate::world::*;

/// Sends so many notices of this size, numbered in their first bytes; gives how many were taken.
async fn tell(session: &Session, class: Class, method: Method, count: u32, size: usize) -> u32 {
    for number in 0..count {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(size, 0);
        let told = session.notify(class, method, body.into());
        in_time("a notice to be taken", told).await.unwrap();
    }
    count
}

/// The numbers of the notices of a class that came, and what was dropped between them.
fn numbers(service: &Service, class: Class) -> (Vec<u32>, Dropped) {
    let mut dropped = Dropped::default();
    let told = service.told.borrow();
    let of_class = told.iter().filter(|(other, _)| *other == class);
    let numbers = of_class.map(|(_, notice)| {
        dropped.messages += notice.dropped.messages;
        dropped.bytes += notice.dropped.bytes;
        u32::from_be_bytes(notice.body[..4].try_into().unwrap())
    });
    (numbers.collect(), dropped)
}

pub(crate) async fn told(service: &Service, count: usize) {
    let mut told = service.told.subscribe();
    in_time("the notices", told.wait_for(|told| told.len() >= count))
        .await
        .unwrap();
}

pub(crate) async fn notices_arrive_in_order_in_both_directions(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let client = Service::new();
    let dialer = world.dialer("a").handler(client.clone());
    let session = dialer.connect(std::time::Duration::from_secs(50)).await;
    let session = session.unwrap();
    let accepted = world.service.sessions.lock()[0].clone();
    for class in Class::ALL {
        tell(&session, class, TOLD, 50, 100).await;
        tell(&accepted, class, TOLD, 50, 100).await;
    }
    for service in [&world.service, &client] {
        told(service, 200).await;
        for class in Class::ALL {
            let expected = ((0..50).collect(), Dropped::default());
            assert_eq!(numbers(service, class), expected, "{class:?}");
        }
    }
    let notice = world.service.told.borrow()[0].1.clone();
    let body = Bytes::from(vec![0; 100]);
    let expected = Notice {
        method: TOLD,
        body,
        dropped: Dropped::default(),
    };
    assert_eq!(notice, expected);
    let metrics = world.server().metrics();
    assert_eq!(metrics.notices.value(), 200);
    for class in Class::ALL {
        let traffic = metrics.traffic(stage.kind, class);
        assert_eq!(traffic.bytes_received.value(), 5000, "{class:?}");
        assert_eq!(traffic.frames_received.value(), 100, "{class:?}");
        assert_eq!(traffic.bytes_sent.value(), 5000, "{class:?}");
    }
}

/// A queue that holds little more than one notice of the largest size.
fn tight() -> Limits {
    let limits = Limits::default();
    Limits {
        notices: limits.data_frame + 64,
        waiting_notices: 2,
        ..limits
    }
}

pub(crate) async fn live_logs_never_wait_and_what_is_dropped_is_marked(stage: Stage) {
    let world = World::new(stage, tight()).await;
    let session = world.dial("a").await;
    let (size, count) = (60_000, 100);
    tell(&session, Class::Log, TOLD_GATED, count, size).await;
    world.service.gate.add_permits(count as usize);
    // Only once the queue is empty can the last one be sure of a place.
    let mut seen = world.service.told.subscribe();
    in_time("a notice", seen.wait_for(|told| !told.is_empty()))
        .await
        .unwrap();
    let last = count - 1;
    let came = || numbers(&world.service, Class::Log).0.last() == Some(&last);
    in_time("the last one", seen.wait_for(|_| came()))
        .await
        .unwrap();
    let (numbers, dropped) = numbers(&world.service, Class::Log);
    assert!(numbers.is_sorted() && dropped.messages > 0, "{numbers:?}");
    assert_eq!(numbers.len() as u64 + dropped.messages, u64::from(count));
    assert_eq!(dropped.bytes, dropped.messages * size as u64);
    assert_eq!(echo(&session, "still").await.unwrap(), "still");
}

pub(crate) async fn other_notices_wait_or_are_refused_and_never_dropped(stage: Stage) {
    for class in [Class::Control, Class::Bulk] {
        let world = World::new(stage, tight()).await;
        let session = world.dial("a").await;
        let (mut senders, mut refused) = (tokio::task::JoinSet::new(), 0);
        let mut taken = 0;
        // Until the places are taken by senders that wait.
        while refused == 0 {
            let session = session.clone();
            senders.spawn(async move {
                let body = Bytes::from(vec![0; 100_000]);
                session.notify(class, TOLD_GATED, body).await
            });
            tokio::task::yield_now().await;
            while let Some(ended) = senders.try_join_next() {
                match ended.unwrap() {
                    Ok(()) => taken += 1,
                    Err(error) => {
                        assert_eq!(error.code, Code::ResourceExhausted);
                        assert!(error.retryable);
                        refused += 1;
                    }
                }
            }
        }
        world.service.gate.add_permits(10_000);
        for ended in in_time("the senders", senders.join_all()).await {
            taken += usize::from(ended.is_ok());
        }
        told(&world.service, taken).await;
        let (numbers, dropped) = numbers(&world.service, class);
        assert_eq!((numbers.len(), dropped), (taken, Dropped::default()));
    }
}

pub(crate) async fn a_notice_over_the_limit_is_refused_before_it_leaves(stage: Stage) {
    let world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    for class in Class::ALL {
        let large = Bytes::from(vec![0; world.limits.data_frame + 1]);
        let error = session.notify(class, TOLD, large).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{class:?}");
    }
    session.close("done");
    let late = session.notify(Class::Log, TOLD, Bytes::new()).await;
    assert_eq!(late.unwrap_err().code, Code::Unavailable);
}

pub(crate) async fn a_drain_lets_the_notices_arrive(stage: Stage) {
    let mut world = World::new(stage, Limits::default()).await;
    let session = world.dial("a").await;
    tell(&session, Class::Log, TOLD, 300, 1000).await;
    tell(&session, Class::Job, TOLD, 30, 1000).await;
    let drain = session.drain(std::time::Duration::from_secs(50));
    in_time("the drain", drain).await;
    let expected = |count| ((0..count).collect(), Dropped::default());
    assert_eq!(numbers(&world.service, Class::Log), expected(300));
    assert_eq!(numbers(&world.service, Class::Job), expected(30));
    // The same when the server goes away, in both directions.
    let client = Service::new();
    let dialer = world.dialer("b").handler(client.clone());
    let session = dialer.connect(std::time::Duration::from_secs(50)).await;
    let session = session.unwrap();
    world.service.told.send_modify(Vec::clear);
    let accepted = world.service.sessions.lock().last().cloned().unwrap();
    tell(&session, Class::Job, TOLD, 30, 1000).await;
    tell(&accepted, Class::Job, TOLD, 30, 1000).await;
    let server = world.server.take().unwrap();
    let shutdown = server.shutdown(std::time::Duration::from_secs(50));
    in_time("the shutdown", shutdown).await;
    assert_eq!(numbers(&world.service, Class::Job), expected(30));
    told(&client, 30).await;
    assert_eq!(numbers(&client, Class::Job), expected(30));
}

#[tokio::test]
async fn live_logs_wait_for_the_next_link_when_there_is_none() {
    let mut world = World::new(TransportKind::Tcp, quick()).await;
    let session = world.dial("a").await;
    drop(world.server.take());
    link(&session, Link::Resuming).await;
    tell(&session, Class::Log, TOLD, 20, 100).await;
    let waiting = {
        let session = session.clone();
        tokio::spawn(async move { tell(&session, Class::Job, TOLD, 1, 100).await })
    };
    tokio::task::yield_now().await;
    assert!(
        !waiting.is_finished(),
        "a notice of a job was taken by nobody"
    );
    world.start().await;
    in_time("the notice of a job", waiting).await.unwrap();
    told(&world.service, 21).await;
    let expected = ((0..20).collect(), Dropped::default());
    assert_eq!(numbers(&world.service, Class::Log), expected);
}
