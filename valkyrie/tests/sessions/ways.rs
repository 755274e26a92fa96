//! Several ways to one server: which is taken, remembered, left and taken again.
//! Must not depend on how fast anything is: head starts are either tiny or longer than a test.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use valkyrie::endpoint::{
    Class, Code, Dialer, DialerBuilder, Limits, Link, Paths, Peer, Server, Session, TransportKind,
};
use valkyrie::identity::{Authority, IdentityStore, TrustDomain};
use valkyrie::metrics::{Metrics, Refusal};

use crate::proxy::Proxy;
use crate::relay::{Relay, StreamRelay, Weather};
use crate::service::*;
use crate::world::*;

/// Longer than any test: what waits for it would never come.
const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(20);

/// A world whose server listens on QUIC and TCP on the same port number.
async fn one_port(limits: Limits) -> World {
    let mut world = World::new(TransportKind::Memory, limits).await;
    let builder = Server::builder(world.identity("operator"), world.service.clone());
    let server = builder
        .limits(world.limits.clone())
        .listen_quic(local())
        .listen_tcp(local())
        .start()
        .await
        .unwrap();
    world.address = server.local_addr().unwrap();
    assert_eq!(server.tcp_addr(), Some(world.address));
    world.server = Some(server);
    world
}

fn dialer(world: &World) -> DialerBuilder {
    Dialer::builder(world.identity("ns/a/agent/1"))
        .limits(world.limits.clone())
        .expect_peer(world.id("operator"))
}

async fn connect(dialer: DialerBuilder) -> Session {
    dialer.connect(Duration::from_secs(50)).await.unwrap()
}

/// Waits until the session is carried by this transport.
async fn carried_by(session: &Session, kind: TransportKind) {
    let mut links = session.link();
    in_time("another transport", async {
        while session.transport() != kind {
            // A change of the link, or a moment: taking over beside is no change.
            let _ = tokio::time::timeout(SOON, links.changed()).await;
        }
    })
    .await;
}

/// Waits until the server has refused so many for this reason.
async fn refused(world: &World, reason: Refusal, count: u64) {
    let metrics = world.server().metrics();
    in_time("the refusals", async {
        while metrics.refused(reason).value() < count {
            tokio::time::sleep(SOON).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_port_number_serves_every_transport() {
    let world = one_port(Limits::default()).await;
    let ways = [
        (dialer(&world).quic(world.address), TransportKind::Quic),
        (dialer(&world).tcp(world.address), TransportKind::Tcp),
        (
            dialer(&world).websocket(world.address, None),
            TransportKind::WebSocket,
        ),
    ];
    for (dialer, kind) in ways {
        let session = connect(dialer).await;
        assert_eq!(session.transport(), kind);
        assert_eq!(echo(&session, "hi").await.unwrap(), "hi");
    }
    assert_eq!(world.service.ups.lock().len(), 3);
    let metrics = world.server().metrics();
    let carried = TransportKind::ALL.map(|kind| metrics.won(kind).value());
    assert_eq!(carried, [1, 1, 1, 0]);
}

#[tokio::test]
async fn with_every_way_open_the_preferred_one_wins() {
    let world = one_port(Limits::default()).await;
    let metrics = Arc::new(Metrics::default());
    let dialer = dialer(&world)
        .quic(world.address)
        .tcp(world.address)
        .websocket(world.address, None)
        .head_start(NEVER)
        .metrics(metrics.clone());
    let session = connect(dialer).await;
    assert_eq!(session.transport(), TransportKind::Quic);
    let won = TransportKind::ALL.map(|kind| metrics.won(kind).value());
    assert_eq!(won, [1, 0, 0, 0]);
}

#[tokio::test]
async fn where_udp_is_blocked_tcp_wins_and_is_remembered() {
    let world = one_port(Limits::default()).await;
    let relay = Relay::to(world.address).await;
    relay.set_open(false);
    let (paths, metrics) = (Paths::new(), Arc::new(Metrics::default()));
    let dialer = dialer(&world)
        .quic(relay.address)
        .tcp(world.address)
        .paths(paths)
        .metrics(metrics.clone());
    let session = connect(dialer.clone().head_start(SOON)).await;
    assert_eq!(session.transport(), TransportKind::Tcp);
    assert!(relay.arrived() > 0, "QUIC was tried first");
    assert_eq!(metrics.won(TransportKind::Tcp).value(), 1);
    // QUIC would now have a head start without end, but TCP is known to work here.
    let again = connect(dialer.head_start(NEVER)).await;
    assert_eq!(again.transport(), TransportKind::Tcp);
    assert_eq!(metrics.won(TransportKind::Tcp).value(), 2);
}

#[tokio::test]
async fn a_way_that_refuses_at_once_costs_no_head_start() {
    let world = one_port(Limits::default()).await;
    // Bound and not listening: the system refuses connections.
    let closed = std::net::TcpListener::bind(local()).unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let dialer = dialer(&world)
        .tcp(address)
        .websocket(world.address, None)
        .head_start(NEVER);
    let session = connect(dialer).await;
    assert_eq!(session.transport(), TransportKind::WebSocket);
}

#[tokio::test]
async fn a_session_goes_over_to_tcp_when_udp_is_cut_and_back_when_it_is_open() {
    let world = one_port(quick()).await;
    let relay = Relay::to(world.address).await;
    let dialer = dialer(&world)
        .quic(relay.address)
        .tcp(world.address)
        .head_start(SOON * 5)
        .retry_preferred(SOON);
    let session = connect(dialer).await;
    let id = session.id();
    assert_eq!(session.transport(), TransportKind::Quic);
    relay.set_open(false);
    carried_by(&session, TransportKind::Tcp).await;
    assert_eq!(echo(&session, "over TCP").await.unwrap(), "over TCP");
    // What is open keeps the session where it is.
    let (mut tx, mut rx) = session
        .open(ECHO_STREAM, Bytes::new(), Class::Log)
        .await
        .unwrap();
    rx.recv().await.unwrap();
    relay.set_open(true);
    for _ in 0..20 {
        tx.send(Bytes::from_static(b"line")).await.unwrap();
        assert_eq!(rx.recv().await.unwrap().unwrap(), "line");
        tokio::time::sleep(SOON).await;
    }
    assert_eq!(session.transport(), TransportKind::Tcp);
    tx.finish().await.unwrap();
    assert_eq!(rx.recv().await.unwrap(), None);
    drop(rx);
    carried_by(&session, TransportKind::Quic).await;
    assert_eq!(echo(&session, "over QUIC").await.unwrap(), "over QUIC");
    assert_eq!(session.id(), id);
}

#[tokio::test]
async fn tls_is_end_to_end_through_a_proxy_that_passes_only_connect() {
    let world = one_port(Limits::default()).await;
    let proxy = Proxy::to(world.address).await;
    let session = connect(dialer(&world).websocket(world.address, Some(proxy.address))).await;
    assert_eq!(session.transport(), TransportKind::WebSocket);
    assert_eq!(echo(&session, "through").await.unwrap(), "through");
    let ups = world.service.ups.lock().clone();
    assert_eq!(
        ups,
        [(session.id(), Peer::Spiffe(world.id("ns/a/agent/1")))]
    );
    let tunnels = proxy.tunnels.lock().clone();
    assert_eq!(tunnels.len(), 1);
    // A TLS record with a ClientHello (RFC 8446 section 5.1).
    assert_eq!((tunnels[0][0], tunnels[0][5]), (22, 1));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_an_unavailable_way() {
    let world = one_port(Limits::default()).await;
    let proxy = Proxy::to(local()).await;
    let dialer = dialer(&world).websocket(world.address, Some(proxy.address));
    let error = dialer
        .connect(Duration::from_millis(300))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    assert!(error.detail.contains("status 403"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused_over_tcp_and_websocket() {
    let world = one_port(Limits::default()).await;
    let domain = TrustDomain::parse("other.example").unwrap();
    let now = SystemTime::now();
    let other = Authority::generate(domain.clone(), now, HOUR).unwrap();
    let id = domain.member("ns/a/agent/1").unwrap();
    let credentials = other.credentials(&id, &[], now, HOUR).unwrap();
    let identity = IdentityStore::new(credentials, world.bundle());
    let builder = || Dialer::builder(identity.clone());
    for dialer in [
        builder().tcp(world.address),
        builder().websocket(world.address, None),
    ] {
        let error = dialer.connect(Duration::from_secs(50)).await.unwrap_err();
        assert_eq!(error.code, Code::Unauthenticated, "{error}");
    }
    assert!(world.service.ups.lock().is_empty());
    refused(&world, Refusal::Tls, 2).await;
}

#[tokio::test]
async fn a_session_over_tcp_and_websocket_is_continued_after_a_cut() {
    for kind in [TransportKind::Tcp, TransportKind::WebSocket] {
        let world = one_port(quick()).await;
        let relay = StreamRelay::with(world.address, Weather::default()).await;
        let dialer = match kind {
            TransportKind::Tcp => dialer(&world).tcp(relay.address),
            _ => dialer(&world).websocket(relay.address, None),
        };
        let session = connect(dialer).await;
        let id = session.id();
        relay.cut();
        link(&session, Link::Resuming).await;
        relay.open();
        assert_eq!(echo(&session, "again").await.unwrap(), "again");
        assert_eq!((session.id(), session.transport()), (id, kind));
        assert_eq!(world.server().metrics().resumptions.value(), 1);
    }
}

#[tokio::test]
async fn bulk_over_tcp_takes_a_connection_of_its_own_and_both_end_together() {
    let world = one_port(quick()).await;
    let relay = StreamRelay::with(world.address, Weather::default()).await;
    let session = connect(dialer(&world).tcp(relay.address)).await;
    for _ in 0..2 {
        let (mut tx, mut rx) = session
            .open(ECHO_STREAM, Bytes::new(), Class::Bulk)
            .await
            .unwrap();
        rx.recv().await.unwrap();
        tx.send(Bytes::from(vec![7; 200_000])).await.unwrap();
        assert_eq!(rx.recv().await.unwrap().unwrap().len(), 200_000);
        tx.finish().await.unwrap();
    }
    assert_eq!(relay.accepted(), 2, "one for control, one for bulk");
    let id = session.id();
    relay.cut();
    link(&session, Link::Resuming).await;
    relay.open();
    assert_eq!(echo(&session, "again").await.unwrap(), "again");
    assert_eq!(session.id(), id);
}

#[tokio::test]
async fn peers_without_tls_and_peers_that_say_nothing_are_put_out_of_tcp() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let limits = Limits {
        hello: Duration::from_millis(200),
        ..Limits::default()
    };
    let world = one_port(limits).await;
    let mut plain = tokio::net::TcpStream::connect(world.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut silent = tokio::net::TcpStream::connect(world.address).await.unwrap();
    for socket in [&mut plain, &mut silent] {
        let mut rest = Vec::new();
        // An alert and the end, or a reset.
        let _ = in_time("the end", socket.read_to_end(&mut rest)).await;
    }
    refused(&world, Refusal::Tls, 2).await;
    assert!(world.service.ups.lock().is_empty());
}
