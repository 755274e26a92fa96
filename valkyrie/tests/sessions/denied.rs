//! Peers that a trusted root vouches for and that may not connect all the same.
//! Must not leave out a transport: the list counts on each of them.

use bytes::Bytes;
use valkyrie::endpoint::{Class, Code, Limits, Link, TransportKind};
use valkyrie::identity::DenyList;
use valkyrie::metrics::Refusal;

use crate::attacks::{admitted, member};
use crate::intruders::is_closed;
use crate::relay::Relay;
use crate::service::*;
use crate::world::*;

const STOLEN: &str = "ns/a/agent/stolen";

#[tokio::test]
async fn a_denied_peer_is_put_out_of_every_transport_and_cannot_come_back() {
    for kind in TransportKind::ALL {
        let world = World::new(kind, Limits::default()).await;
        let honest = world.dial("ns/a/agent/honest").await;
        let stolen = world.dial(STOLEN).await;
        let (_tx, mut rx) = stolen
            .open(ECHO_STREAM, Bytes::new(), Class::Log)
            .await
            .unwrap();
        rx.recv().await.unwrap();
        world.deny(DenyList::new().id(world.id(STOLEN)));
        in_time("the end of the session", stolen.closed()).await;
        assert!(rx.recv().await.is_err(), "{kind:?}: its stream is cut");
        let mut downs = world.service.downs.subscribe();
        in_time("the handler", downs.wait_for(|downs| downs.len() == 1))
            .await
            .unwrap();
        let again = world
            .dialer(STOLEN)
            .connect(std::time::Duration::from_secs(50));
        let error = in_time("the refusal", again).await.unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied, "{kind:?}: {error}");
        assert!(!error.retryable);
        let metrics = world.server().metrics();
        assert!(metrics.refused(Refusal::Denied).value() >= 2, "{kind:?}");
        assert_eq!(echo(&honest, "unharmed").await.unwrap(), "unharmed");
        world.deny(DenyList::new());
        let forgiven = in_time("a second chance", world.dial(STOLEN)).await;
        assert_eq!(echo(&forgiven, "back").await.unwrap(), "back");
    }
}

#[tokio::test]
async fn a_session_that_waits_for_a_denied_peer_is_given_up_at_once() {
    let world = World::new(TransportKind::Quic, quick()).await;
    let relay = Relay::to(world.address).await;
    let dialer = world.dialer(STOLEN).quic(relay.address);
    let stolen = dialer.connect(options().deadline).await.unwrap();
    let id = stolen.id();
    relay.set_open(false);
    link(&stolen, Link::Resuming).await;
    let metrics = world.server().metrics();
    counted("the loss", &metrics.disconnections, 1).await;
    assert!(world.service.downs.borrow().is_empty(), "it waits");
    world.deny(DenyList::new().id(world.id(STOLEN)));
    let mut downs = world.service.downs.subscribe();
    in_time("the end", downs.wait_for(|downs| downs.contains(&id)))
        .await
        .unwrap();
    relay.set_open(true);
    in_time("the dialer's end", stolen.closed()).await;
    assert_eq!(metrics.resumptions.value(), 0);
}

#[tokio::test]
async fn a_denied_certificate_or_key_is_out_and_its_owner_may_come_with_another() {
    for by_key in [false, true] {
        let world = World::new(TransportKind::Quic, Limits::default()).await;
        let identity = world.identity(STOLEN);
        let shown = identity.credentials().unwrap();
        let dialer = world.dialer_as(identity.clone(), STOLEN);
        let session = dialer.clone().connect(options().deadline).await.unwrap();
        world.deny(match by_key {
            true => DenyList::new().key(shown.key()),
            false => DenyList::new().serial(shown.serial().clone()),
        });
        in_time("the end", session.closed()).await;
        let error = dialer
            .clone()
            .connect(options().deadline)
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied);
        identity.replace_credentials(world.credentials(STOLEN, HOUR));
        let renewed = dialer.connect(options().deadline).await.unwrap();
        assert_eq!(echo(&renewed, "another").await.unwrap(), "another");
    }
}

#[tokio::test]
async fn the_close_code_of_a_denial_is_its_own() {
    let world = World::new(TransportKind::Quic, Limits::default()).await;
    let (connection, _send, _recv) = admitted(&world, member(&world)).await;
    world.deny(DenyList::new().id(world.id("ns/a/agent/1")));
    let ended = in_time("the end", connection.closed()).await;
    assert!(is_closed(&ended, 9), "{ended}");
}

#[tokio::test]
async fn a_dialer_leaves_a_server_that_it_denies() {
    let world = World::new(TransportKind::Tcp, Limits::default()).await;
    let identity = world.identity("ns/a/agent/1");
    let dialer = world.dialer_as(identity.clone(), "ns/a/agent/1");
    let session = dialer.clone().connect(options().deadline).await.unwrap();
    identity.replace_denied(DenyList::new().id(world.id("operator")));
    in_time("the end", session.closed()).await;
    let error = dialer.connect(options().deadline).await.unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied, "{error}");
}
