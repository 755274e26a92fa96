//! A server that goes away and says to whom: its peers go there first, and it ends after them.
//! Must not assert on time: every wait is for an event.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use valkyrie::endpoint::{Class, Limits, Link, Server, TransportKind};

use crate::service::*;
use crate::world::*;

const NETWORKS: [TransportKind; 3] = [
    TransportKind::Quic,
    TransportKind::Tcp,
    TransportKind::WebSocket,
];

/// A second server of the same trust domain, under this name.
async fn second(world: &World, name: &str) -> (Server, SocketAddr, Arc<Service>) {
    let service = Service::new();
    let builder = Server::builder(world.identity(name), service.clone());
    let builder = match world.kind {
        TransportKind::Quic => builder.listen_quic(local()),
        _ => builder.listen_tcp(local()),
    };
    let server = builder.start().await.unwrap();
    let address = server.local_addr().or(server.tcp_addr()).unwrap();
    (server, address, service)
}

async fn came(service: &Service, count: usize) {
    in_time("a peer to come", async {
        while service.ups.lock().len() < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn peers_go_to_the_successor_first_and_running_calls_end_where_they_are() {
    for kind in NETWORKS {
        let mut world = World::new(kind, Limits::default()).await;
        let (_second, address, successor) = second(&world, "operator").await;
        let session = world.dial("a").await;
        let first_id = session.id();
        let links = session.link();
        let running = {
            let session = session.clone();
            tokio::spawn(async move { session.call(GATED, Bytes::new(), options()).await })
        };
        let mut begun = world.service.begun.subscribe();
        in_time("the call", begun.wait_for(|count| *count == 1))
            .await
            .unwrap();
        session
            .notify(Class::Job, TOLD, Bytes::from_static(b"before"))
            .await
            .unwrap();
        let server = world.server.take().unwrap();
        let hint = address.to_string();
        let leaving =
            tokio::spawn(async move { server.hand_over(Duration::from_secs(50), &hint).await });
        came(&successor, 1).await;
        // New calls go there while the one before still runs here.
        let body = Bytes::from_static(b"new");
        assert_eq!(session.call(ECHO, body.clone(), options()).await, Ok(body));
        assert_eq!(successor.runs.load(Ordering::SeqCst), 1, "{kind:?}");
        assert!(!running.is_finished() && !leaving.is_finished(), "{kind:?}");
        assert_ne!(session.id(), first_id);
        assert_eq!(world.service.told.borrow().len(), 1);
        world.service.release();
        in_time("the reply", running).await.unwrap().unwrap();
        in_time("the end", leaving).await.unwrap();
        assert_eq!(echo(&session, "there").await.unwrap(), "there");
        assert_eq!(*links.borrow(), Link::Up);
        assert!(!links.has_changed().unwrap(), "{kind:?}: the link was down");
    }
}

#[tokio::test]
async fn a_successor_that_is_not_there_or_someone_else_is_left_for_the_known_way() {
    for somebody in [true, false] {
        let limits = Limits {
            hello: Duration::from_secs(2),
            ..quick()
        };
        let mut world = World::new(TransportKind::Tcp, limits).await;
        let (_other, address, service) = second(&world, "someone-else").await;
        let hint = match somebody {
            true => address.to_string(),
            // A port of which nobody listens any more.
            false => {
                let socket = std::net::TcpListener::bind(local()).unwrap();
                socket.local_addr().unwrap().to_string()
            }
        };
        let session = world.dial("a").await;
        let server = world.server.take().unwrap();
        let leaving = server.hand_over(Duration::from_secs(50), &hint);
        in_time("the end", leaving).await;
        world.start().await;
        assert_eq!(echo(&session, "home").await.unwrap(), "home");
        assert!(service.ups.lock().is_empty(), "it is not spoken to");
    }
}

#[tokio::test]
async fn a_session_that_went_over_is_continued_at_the_successor_after_a_cut() {
    let mut world = World::new(TransportKind::Tcp, quick()).await;
    let (other, address, service) = second(&world, "operator").await;
    let session = world.dial("a").await;
    let server = world.server.take().unwrap();
    let hint = address.to_string();
    let leaving = server.hand_over(Duration::from_secs(50), &hint);
    in_time("the end", leaving).await;
    came(&service, 1).await;
    let id = session.id();
    let accepted = service.sessions.lock()[0].clone();
    assert_eq!(accepted.id(), id);
    drop(other);
    // The one at home is asked too, since nobody is at the successor's any more.
    world.start().await;
    assert_eq!(echo(&session, "home").await.unwrap(), "home");
}
