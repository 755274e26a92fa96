//! Broken connections: what is continued, what fails, what is made anew.
//! Must not depend on how fast a break is noticed, only that it is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use valkyrie::endpoint::{CallOptions, Class, Code, Limits, Link, Session, TransportKind};

use crate::relay::Relay;
use crate::service::*;
use crate::world::*;

/// Swallows all packets until the dialer has given the connection up, then lets them pass.
async fn cut(relay: &Relay, session: &Session) {
    relay.set_open(false);
    link(session, Link::Resuming).await;
    relay.set_open(true);
}

async fn dial_through(world: &World, relay: &Relay) -> Session {
    let dialer = world.dialer("ns/a/agent/1").quic(relay.address);
    dialer.connect(Duration::from_secs(50)).await.unwrap()
}

#[tokio::test]
async fn a_session_is_continued_after_a_cut_and_the_handler_hears_of_it() {
    let world = World::new(TransportKind::Quic, quick()).await;
    let relay = Relay::to(world.address).await;
    let session = dial_through(&world, &relay).await;
    let id = session.id();
    cut(&relay, &session).await;
    link(&session, Link::Up).await;
    assert_eq!(echo(&session, "again").await.unwrap(), "again");
    assert_eq!(session.id(), id);
    assert_eq!(world.service.ups.lock().len(), 2);
    assert!(world.service.downs.borrow().is_empty());
    assert_eq!(world.server().metrics().resumptions.value(), 1);
}

#[tokio::test]
async fn an_idempotent_call_cut_in_the_middle_is_sent_again() {
    let world = World::new(TransportKind::Quic, quick()).await;
    let relay = Relay::to(world.address).await;
    let session = dial_through(&world, &relay).await;
    let calling = {
        let session = session.clone();
        let options = options().idempotent();
        tokio::spawn(async move { session.call(SECOND_TIME, Bytes::new(), options).await })
    };
    let mut begun = world.service.begun.subscribe();
    in_time("the call", begun.wait_for(|count| *count == 1))
        .await
        .unwrap();
    cut(&relay, &session).await;
    assert_eq!(
        in_time("the reply", calling).await.unwrap().unwrap(),
        "again"
    );
    assert_eq!(world.service.runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_call_that_is_not_idempotent_fails_when_cut_and_is_never_run_twice() {
    let world = World::new(TransportKind::Quic, quick()).await;
    let relay = Relay::to(world.address).await;
    let session = dial_through(&world, &relay).await;
    let calling = {
        let session = session.clone();
        tokio::spawn(async move { call(&session, HANG).await })
    };
    let mut begun = world.service.begun.subscribe();
    in_time("the call", begun.wait_for(|count| *count == 1))
        .await
        .unwrap();
    cut(&relay, &session).await;
    let error = in_time("the failure", calling).await.unwrap().unwrap_err();
    assert_eq!((error.code, error.retryable), (Code::Unavailable, true));
    assert_eq!(echo(&session, "next").await.unwrap(), "next");
    assert_eq!(
        world.service.runs.load(Ordering::SeqCst),
        2,
        "the call and the echo"
    );
}

#[tokio::test]
async fn a_stream_dies_with_its_connection_and_the_next_one_works() {
    let world = World::new(TransportKind::Quic, quick()).await;
    let relay = Relay::to(world.address).await;
    let session = dial_through(&world, &relay).await;
    let (_tx, mut rx) = session
        .open(ECHO_STREAM, Bytes::new(), Class::Log)
        .await
        .unwrap();
    rx.recv().await.unwrap();
    cut(&relay, &session).await;
    assert_eq!(
        in_time("the break", rx.recv()).await.unwrap_err().code,
        Code::Unavailable
    );
    let head = Bytes::from_static(b"from offset 7");
    let opened = in_time(
        "a stream",
        session.open(ECHO_STREAM, head.clone(), Class::Log),
    )
    .await;
    let (_tx, mut rx) = opened.unwrap();
    assert_eq!(rx.recv().await.unwrap(), Some(head));
}

/// Kills the server: not a packet leaves it any more, and its successor knows nothing.
async fn kill(world: &mut World, relay: &Relay) {
    relay.set_open(false);
    world.server = None;
    world.service = Service::new();
    let mut retry = 0;
    while std::net::UdpSocket::bind(world.address).is_err() {
        retry += 1;
        assert!(retry < 2000, "the old socket stays open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_idle_peer_of_a_killed_server_hears_it_from_the_successor() {
    // Nothing is open, and silence is suspect only long after this test: only the successor's
    // answer to the next keep-alive can tell.
    let limits = Limits {
        idle: Duration::from_secs(600),
        suspect: Duration::from_secs(500),
        ..quick()
    };
    let mut world = World::new(TransportKind::Quic, limits).await;
    let relay = Relay::to(world.address).await;
    let session = dial_through(&world, &relay).await;
    let before = session.id();
    kill(&mut world, &relay).await;
    world.start().await;
    relay.set_open(true);
    let mut links = session.link();
    in_time("the news", links.wait_for(|link| *link == Link::Resuming))
        .await
        .unwrap();
    link(&session, Link::Up).await;
    assert_ne!(session.id(), before);
    assert_eq!(world.service.ups.lock().len(), 1);
}

#[tokio::test]
async fn a_killed_server_is_left_for_its_successor_with_a_fresh_session() {
    // Idle for so long that only the probes of open work can notice the kill in this test.
    let limits = Limits {
        idle: Duration::from_secs(600),
        ..quick()
    };
    let limits = Limits {
        suspect: Duration::from_secs(500),
        ..limits
    };
    let mut world = World::new(TransportKind::Quic, limits).await;
    let relay = Relay::to(world.address).await;
    let session = dial_through(&world, &relay).await;
    let before = session.id();
    let calling = {
        let session = session.clone();
        let options = options().idempotent();
        tokio::spawn(async move { session.call(SECOND_TIME, Bytes::new(), options).await })
    };
    let mut begun = world.service.begun.subscribe();
    in_time("the call", begun.wait_for(|count| *count == 1))
        .await
        .unwrap();
    kill(&mut world, &relay).await;
    world.service.runs.store(1, Ordering::SeqCst);
    world.start().await;
    relay.set_open(true);
    assert_eq!(
        in_time("the reply", calling).await.unwrap().unwrap(),
        "again"
    );
    assert_ne!(session.id(), before);
    assert_eq!(world.service.ups.lock().len(), 1);
    link(&session, Link::Up).await;
}

#[tokio::test]
async fn a_server_that_shuts_down_hands_its_peers_to_the_next_one() {
    for kind in TransportKind::ALL {
        let mut world = World::new(kind, quick()).await;
        let session = world.dial("a").await;
        assert_eq!(echo(&session, "one").await.unwrap(), "one");
        let server = world.server.take().unwrap();
        in_time("the shutdown", server.shutdown(Duration::from_secs(20))).await;
        let mut retry = 0;
        while kind == TransportKind::Quic && std::net::UdpSocket::bind(world.address).is_err() {
            retry += 1;
            assert!(retry < 2000, "the old socket stays open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.start().await;
        assert_eq!(
            in_time("the echo", echo(&session, "two")).await.unwrap(),
            "two"
        );
        assert_eq!(world.service.ups.lock().len(), 2);
    }
}

#[tokio::test]
async fn a_memory_session_is_continued_after_a_cut() {
    let world = World::new(TransportKind::Memory, quick()).await;
    let session = world.dial("a").await;
    let id = session.id();
    for _ in 0..5 {
        world.hub.cut();
        assert_eq!(
            in_time("the echo", echo(&session, "again")).await.unwrap(),
            "again"
        );
    }
    assert_eq!(session.id(), id);
}

#[tokio::test]
async fn a_peer_that_does_not_come_back_is_down_after_the_resume_window() {
    let limits = Limits {
        resume_window: Duration::from_millis(50),
        ..quick()
    };
    let world = World::new(TransportKind::Quic, limits).await;
    let relay = Relay::to(world.address).await;
    let session = dial_through(&world, &relay).await;
    let id = session.id();
    relay.set_open(false);
    let mut downs = world.service.downs.subscribe();
    in_time("down", downs.wait_for(|downs| downs.contains(&id)))
        .await
        .unwrap();
    let accepted = world.service.sessions.lock()[0].clone();
    assert_eq!(*accepted.link().borrow(), Link::Down);
    relay.set_open(true);
    assert_eq!(
        in_time("the echo", echo(&session, "late")).await.unwrap(),
        "late"
    );
    assert_ne!(session.id(), id, "the old session was given up");
}

#[tokio::test]
async fn a_silent_peer_is_suspect_before_it_is_given_up() {
    let world = World::new(TransportKind::Quic, quick()).await;
    let relay = Relay::to(world.address).await;
    let session = dial_through(&world, &relay).await;
    let mut links = session.link();
    relay.set_open(false);
    in_time("suspect", links.wait_for(|link| *link == Link::Suspect))
        .await
        .unwrap();
    relay.set_open(true);
    link(&session, Link::Up).await;
    session.close("done");
    link(&session, Link::Down).await;
}

#[tokio::test]
async fn a_call_waits_for_the_link_no_longer_than_its_deadline() {
    let world = World::new(TransportKind::Quic, quick()).await;
    let relay = Relay::to(world.address).await;
    let session = dial_through(&world, &relay).await;
    relay.set_open(false);
    link(&session, Link::Resuming).await;
    let short = CallOptions::new(Duration::from_millis(300)).idempotent();
    let error = session.call(ECHO, Bytes::new(), short).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_server_that_hands_over_names_its_successor_while_running_calls_end() {
    // Nobody can go there, so the server waits for nobody for long.
    let limits = Limits {
        hello: Duration::from_secs(1),
        ..Limits::default()
    };
    for kind in [TransportKind::Memory, TransportKind::Tcp] {
        let mut world = World::new(kind, limits.clone()).await;
        let session = world.dial("a").await;
        let running = {
            let session = session.clone();
            tokio::spawn(async move { session.call(GATED, Bytes::new(), options()).await })
        };
        let mut begun = world.service.begun.subscribe();
        in_time("the call", begun.wait_for(|count| *count == 1))
            .await
            .unwrap();
        assert_eq!(session.successor(), None);
        let server = world.server.take().unwrap();
        let leaving = server.hand_over(Duration::from_secs(50), "other:4433");
        let leaving = tokio::spawn(leaving);
        in_time("the announcement", async {
            while session.successor().as_deref() != Some("other:4433") {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        assert!(!running.is_finished(), "{kind:?}: the call was cut off");
        world.service.release();
        in_time("the reply", running).await.unwrap().unwrap();
        in_time("the end", leaving).await.unwrap();
    }
}
