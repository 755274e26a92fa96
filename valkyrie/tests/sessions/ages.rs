//! Connections and the certificates they began with: replaced before one ends, closed when it does.
//! Must not wait for a certificate to age: the clock is moved.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use valkyrie::endpoint::{Class, Limits, Link, Rx, Session, TransportKind, Tx};
use valkyrie::identity::{Clock, IdentityStore};
use valkyrie::metrics::{Metrics, Refusal};

use crate::attacks::{admitted, member};
use crate::intruders::is_closed;
use crate::service::*;
use crate::world::*;

const AGENT: &str = "ns/a/agent/1";
const MINUTE: Duration = Duration::from_secs(60);
const NETWORKS: [TransportKind; 3] = [
    TransportKind::Quic,
    TransportKind::Tcp,
    TransportKind::WebSocket,
];

async fn world(kind: TransportKind, limits: Limits) -> World {
    World::by(Clock::fixed(SystemTime::now()), kind, limits).await
}

async fn open(session: &Session) -> (Tx, Rx) {
    let opened = session.open(ECHO_STREAM, Bytes::new(), Class::Log).await;
    let (tx, mut rx) = opened.unwrap();
    rx.recv().await.unwrap();
    (tx, rx)
}

async fn exchange((tx, rx): &mut (Tx, Rx), line: &'static str) {
    tx.send(Bytes::from_static(line.as_bytes())).await.unwrap();
    let back = in_time("the line", rx.recv()).await.unwrap();
    assert_eq!(back.unwrap(), line);
}

#[tokio::test]
async fn before_a_certificate_ends_a_newer_connection_takes_over_and_breaks_nothing() {
    for kind in NETWORKS {
        let world = world(kind, Limits::default()).await;
        // Long enough for the agent's to be the one that ends.
        let server = world.store.as_ref().unwrap();
        server.replace_credentials(world.credentials("operator", 20 * HOUR));
        let identity = world.identity(AGENT);
        let metrics = std::sync::Arc::new(Metrics::default());
        let dialer = world.dialer_as(identity.clone(), AGENT);
        let dialer = dialer.metrics(metrics.clone());
        let session = dialer.connect(options().deadline).await.unwrap();
        let id = session.id();
        let mut stream = open(&session).await;
        let waiting = {
            let session = session.clone();
            tokio::spawn(async move { call(&session, GATED).await })
        };
        let mut begun = world.service.begun.subscribe();
        let began = begun.wait_for(|count| *count == 2);
        in_time("the call", began).await.unwrap();
        let mut links = session.link();
        links.mark_unchanged();

        world.clock.advance(42 * MINUTE);
        identity.replace_credentials(world.credentials(AGENT, HOUR));
        exchange(&mut stream, "renewed").await;
        assert_eq!(metrics.rotations.value(), 0, "not yet");
        world.clock.advance(14 * MINUTE);
        counted("the rotation", &metrics.rotations, 1).await;
        exchange(&mut stream, "on the older connection").await;
        assert_eq!(
            echo(&session, "on the newer").await.unwrap(),
            "on the newer"
        );
        world.service.release();
        in_time("the call", waiting).await.unwrap().unwrap();
        exchange(&mut stream, "still").await;
        stream.0.finish().await.unwrap();
        assert_eq!(stream.1.recv().await.unwrap(), None);
        drop(stream.1);

        let of_server = world.server().metrics();
        counted("the end of the older one", &of_server.disconnections, 1).await;
        world.clock.advance(10 * MINUTE);
        assert_eq!(echo(&session, "after").await.unwrap(), "after");
        assert_eq!((session.id(), links.has_changed().unwrap()), (id, false));
        let counts = [&of_server.rotations, &of_server.connections];
        assert_eq!(counts.map(|counter| counter.value()), [1, 2], "{kind:?}");
        assert_eq!(of_server.refused(Refusal::Expired).value(), 0);
    }
}

#[tokio::test]
async fn the_servers_certificate_bounds_a_connection_as_well() {
    let world = world(TransportKind::Quic, Limits::default()).await;
    let identity = world.identity(AGENT);
    identity.replace_credentials(world.credentials(AGENT, 20 * HOUR));
    let dialer = world.dialer_as(identity, AGENT);
    let session = dialer.connect(options().deadline).await.unwrap();
    let mut stream = open(&session).await;
    let server = world.store.as_ref().unwrap();
    server.replace_credentials(world.credentials("operator", 20 * HOUR));
    world.clock.advance(56 * MINUTE);
    let metrics = world.server().metrics();
    counted("the rotation", &metrics.rotations, 1).await;
    exchange(&mut stream, "still").await;
    // The older connection's end is hard: the stream on it does not go on.
    world.clock.advance(5 * MINUTE);
    let ended = in_time("the end", stream.1.recv()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(echo(&session, "newer").await.unwrap(), "newer");
    assert_eq!(metrics.resumptions.value(), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_go_over_is_told_and_then_closed() {
    let world = world(TransportKind::Quic, Limits::default()).await;
    let server = world.store.as_ref().unwrap();
    // The peer's own, which it forges for a longer time, does not help it.
    server.replace_credentials(world.credentials("operator", HOUR));
    let (connection, _send, mut control) = admitted(&world, member(&world)).await;
    // Kept open, so that it is not quiet.
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&crate::attacks::open_stream())
        .await
        .unwrap();
    let mut begun = world.service.begun.subscribe();
    in_time("the stream", begun.wait_for(|count| *count == 1))
        .await
        .unwrap();
    world.clock.advance(58 * MINUTE);
    let goaway = u8::try_from(valkyrie::wire::FrameType::Goaway.number()).unwrap();
    in_time("the notice", async {
        let mut seen = [0; 256];
        loop {
            let length = control.read(&mut seen).await.unwrap().unwrap();
            if seen[..length].windows(2).any(|two| two == [goaway, 1]) {
                return;
            }
        }
    })
    .await;
    assert_eq!(connection.close_reason(), None, "it may end what is open");
    world.clock.advance(3 * MINUTE);
    let ended = in_time("the end", connection.closed()).await;
    assert!(is_closed(&ended, 7), "{ended}");
    let metrics = world.server().metrics();
    counted("the reason", metrics.refused(Refusal::Expired), 1).await;
}

#[tokio::test]
async fn a_dialer_closes_what_it_could_not_replace_when_its_certificate_ends() {
    // Room for one connection: a newer one beside it is refused.
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let world = World::new(TransportKind::Quic, limits).await;
    let clock = Clock::fixed(SystemTime::now());
    let credentials = world.credentials(AGENT, HOUR);
    let identity = IdentityStore::with(Some(credentials), world.bundle(), clock.clone());
    let metrics = std::sync::Arc::new(Metrics::default());
    let dialer = world.dialer_as(identity, AGENT).metrics(metrics.clone());
    let session = dialer.connect(options().deadline).await.unwrap();
    let mut stream = open(&session).await;
    clock.advance(56 * MINUTE);
    let refused = world.server().metrics();
    counted("an attempt", refused.refused(Refusal::Connections), 1).await;
    exchange(&mut stream, "still").await;
    clock.advance(4 * MINUTE);
    let ended = in_time("the end", stream.1.recv()).await;
    assert!(ended.is_err(), "{ended:?}");
    counted("the reason", metrics.refused(Refusal::Expired), 1).await;
    link(&session, Link::Resuming).await;
}
