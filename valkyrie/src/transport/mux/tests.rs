//! Connections of one link and of two, over pipes in memory.
//! Must not need TLS: peers' ids are given.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{BufReader, DuplexStream};

use super::*;
use crate::error::Code;
use crate::identity::TrustDomain;

fn wires() -> (BufReader<DuplexStream>, BufReader<DuplexStream>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (BufReader::new(near), BufReader::new(far))
}

fn peer(path: &str) -> SpiffeId {
    TrustDomain::parse("t.example")
        .unwrap()
        .member(path)
        .unwrap()
}

/// Dials further links to a server in this process, as this peer.
struct Second {
    doors: Arc<Doors>,
    peer: SpiffeId,
    dials: Arc<AtomicUsize>,
    joined: Arc<Mutex<Vec<Joined>>>,
}

#[async_trait]
impl Further for Second {
    async fn join(&self, ticket: Ticket) -> Result<MuxConnection, Ended> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        let (near, far) = wires();
        let (limits, kind) = (Limits::default(), TransportKind::Tcp);
        let dialed = MuxConnection::dialed(kind, &limits, near, Some(ticket), None);
        let accepted = MuxConnection::accepted(kind, &limits, far, None);
        let First::Join(shown) = accepted.first().await else {
            panic!("it begins with its ticket");
        };
        let joined = accepted.join(&self.doors, shown, &self.peer);
        self.joined.lock().extend(joined);
        match dialed.first().await {
            First::Joined => Ok(dialed),
            _ => Err(dialed.closed().await),
        }
    }
}

struct World {
    dialer: MuxConnection,
    server: MuxConnection,
    doors: Arc<Doors>,
    dials: Arc<AtomicUsize>,
    joined: Arc<Mutex<Vec<Joined>>>,
}

/// A connection of `a` whose further links are dialed by `second`.
fn world(second: &str) -> World {
    let doors = Arc::<Doors>::default();
    let (dials, joined) = <(Arc<AtomicUsize>, Arc<Mutex<Vec<Joined>>>)>::default();
    let further = Second {
        doors: doors.clone(),
        peer: peer(second),
        dials: dials.clone(),
        joined: joined.clone(),
    };
    let (near, far) = wires();
    let (limits, kind) = (Limits::default(), TransportKind::Tcp);
    let dialer = MuxConnection::dialed(kind, &limits, near, None, Some(Box::new(further)));
    let server = MuxConnection::accepted(kind, &limits, far, Some((peer("a"), &doors)));
    World {
        dialer,
        server,
        doors,
        dials,
        joined,
    }
}

/// Sends bytes on a new stream of the class, and back; the reply of the peer.
async fn echo(world: &World, class: Class, bytes: &Bytes) -> Bytes {
    let (mut send, mut recv) = world.dialer.open(class).await.unwrap();
    let echoing = async {
        let (mut send, mut recv) = world.server.accept().await.unwrap();
        while let Some(bytes) = recv.read().await.unwrap() {
            send.write(&mut VecDeque::from([bytes])).await.unwrap();
        }
        send.finish().unwrap();
        send.stopped().await.unwrap();
    };
    let asking = async {
        send.write(&mut VecDeque::from([bytes.clone()]))
            .await
            .unwrap();
        send.finish().unwrap();
    };
    let reading = async {
        let mut all = Vec::new();
        while let Some(bytes) = recv.read().await.unwrap() {
            all.extend_from_slice(&bytes);
        }
        Bytes::from(all)
    };
    tokio::join!(echoing, asking, reading).2
}

/// The server admits the dialer, which hears how to join.
async fn admitted_pair(world: &World) {
    assert_eq!(echo(world, Class::Control, &"hello".into()).await, "hello");
    world.server.admit(16);
    while world.dialer.group().ticket().is_none() {
        assert_eq!(echo(world, Class::Control, &"hello".into()).await, "hello");
    }
}

#[tokio::test]
async fn bulk_gets_a_link_of_its_own_once_and_control_stays() {
    let world = world("a");
    admitted_pair(&world).await;
    assert_eq!(world.doors.count(), 1);
    let artifact = Bytes::from(vec![7; 3_000_000]);
    for _ in 0..2 {
        assert!(echo(&world, Class::Bulk, &artifact).await == artifact);
    }
    assert_eq!(world.dials.load(Ordering::SeqCst), 1);
    let links = (world.dialer.group().main(), world.dialer.group().data());
    let (main, data) = (links.0.unwrap(), links.1.unwrap());
    let sent = |link: &Arc<Link>| link.look(|machine| machine.sent());
    assert!(sent(&data) >= 6_000_000, "{}", sent(&data));
    assert!(sent(&main) < 1000, "{}", sent(&main));
    assert_eq!(echo(&world, Class::Control, &"ping".into()).await, "ping");
    world.dialer.close(CloseCode::Closed, "done");
    let ended = world.server.closed().await;
    assert!(
        matches!(
            ended,
            Ended::Closed {
                code: CloseCode::Closed,
                by_peer: true,
                ..
            }
        ),
        "{ended}"
    );
    world.dialer.flushed().await;
    world.server.flushed().await;
    assert_eq!(world.doors.count(), 0);
    let joined = world.joined.lock().pop().unwrap();
    joined.closed().await;
}

#[tokio::test]
async fn a_ticket_of_another_peer_opens_nothing_and_bulk_goes_beside_control() {
    let world = world("b");
    admitted_pair(&world).await;
    for _ in 0..2 {
        assert_eq!(echo(&world, Class::Bulk, &"bulk".into()).await, "bulk");
    }
    assert!(world.dialer.group().data().is_none());
    assert_eq!(
        world.dials.load(Ordering::SeqCst),
        1,
        "not tried again soon"
    );
}

#[tokio::test]
async fn a_broken_data_link_ends_the_whole_connection() {
    let world = world("a");
    admitted_pair(&world).await;
    assert_eq!(echo(&world, Class::Bulk, &"bulk".into()).await, "bulk");
    let data = world.server.group().data().unwrap();
    data.close(CloseCode::Busy, "as if it broke");
    for end in [world.dialer.closed().await, world.server.closed().await] {
        let closed = matches!(&end, Ended::Closed { code, .. } if *code != CloseCode::Closed);
        assert!(closed || matches!(end, Ended::Broken(_)), "{end}");
    }
    let opened = world.dialer.open(Class::Control).await;
    assert!(matches!(opened, Err(StreamError::Lost)));
}

#[tokio::test]
async fn what_arrived_before_a_close_can_still_be_read() {
    let world = world("a");
    let (mut send, _) = world.dialer.open(Class::Control).await.unwrap();
    let (_, mut recv) = {
        send.write(&mut VecDeque::from([Bytes::from_static(b"refused")]))
            .await
            .unwrap();
        send.finish().unwrap();
        world.server.accept().await.unwrap()
    };
    send.stopped().await.unwrap();
    world.dialer.close(CloseCode::Refused, "as told");
    world.server.closed().await;
    assert_eq!(recv.read().await, Ok(Some(Bytes::from_static(b"refused"))));
    assert_eq!(recv.read().await, Ok(None));
}

#[tokio::test]
async fn bytes_that_break_the_protocol_end_the_connection_with_its_code() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut near, far) = wires();
    let server = MuxConnection::accepted(TransportKind::Tcp, &Limits::default(), far, None);
    near.write_all(&[0x3f, 1, 0]).await.unwrap();
    let ended = server.closed().await;
    assert!(matches!(ended, Ended::Violated(_)), "{ended}");
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.unwrap();
    let mut machine = machine::Machine::new(Side::Dialing, Windows::whole(1));
    machine.receive(&said).unwrap();
    let told = machine.events().pop();
    assert!(
        matches!(told, Some(machine::Event::Closed(CloseCode::Protocol, _))),
        "{told:?}"
    );
}

#[tokio::test]
async fn the_last_handle_closes_and_a_dropped_half_resets() {
    let world = world("a");
    let (send, _recv) = world.dialer.open(Class::Job).await.unwrap();
    let (_send, mut recv) = world.server.accept().await.unwrap();
    drop(send);
    assert_eq!(recv.read().await, Err(StreamError::Reset(Code::Cancelled)));
    let World { dialer, server, .. } = world;
    drop(dialer);
    let ended = server.closed().await;
    let away = matches!(
        ended,
        Ended::Closed {
            code: CloseCode::GoingAway,
            by_peer: true,
            ..
        }
    );
    assert!(away, "{ended}");
}
