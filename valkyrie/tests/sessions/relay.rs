//! Relays between a dialer and a server: they delay, lose or swallow what they carry.
//! Must not look into it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::world::local;

/// What the network between the two sides is like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Time in each direction.
    pub(crate) delay: Duration,
    /// Every n-th packet on average is lost; 0: none. TCP repeats what is lost by itself, so a
    /// relay of TCP only delays: what a loss does to it is shown in a lab.
    pub(crate) loss: u64,
}

/// Which packets are lost: the same in each run.
pub(crate) struct Losses {
    one_in: u64,
    random: u64,
}

impl Losses {
    pub(crate) fn new(weather: Weather, seed: u64) -> Self {
        Self {
            one_in: weather.loss,
            random: seed,
        }
    }

    /// Whether the next packet is lost.
    pub(crate) fn next(&mut self) -> bool {
        // A step of a linear congruential generator (Knuth).
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005);
        self.random = self.random.wrapping_add(1_442_695_040_888_963_407);
        self.one_in > 0 && (self.random >> 33).is_multiple_of(self.one_in)
    }
}

/// Packets or pieces on their way; when full, packets are lost and a stream waits.
const ON_THE_WAY: usize = 4096;

/// A UDP relay for one dialer.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::with(server, Weather::default())
    }

    pub(crate) fn with(server: SocketAddr, weather: Weather) -> Self {
        let (front, back) = (Arc::new(socket()), Arc::new(socket()));
        let address = front.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let arrived = Arc::new(AtomicU64::new(0));
        let dialer = Arc::new(Mutex::new(server));
        let mut tasks = JoinSet::new();
        let to_server = Lane::new(&mut tasks, back.clone(), weather, 1);
        let to_dialer = Lane::new(&mut tasks, front.clone(), weather, 2);
        tasks.spawn({
            let (open, arrived, dialer) = (open.clone(), arrived.clone(), dialer.clone());
            async move {
                let mut lane = to_server;
                let mut buffer = vec![0; 65_536];
                while let Ok((length, from)) = front.recv_from(&mut buffer).await {
                    *dialer.lock() = from;
                    arrived.fetch_add(1, Ordering::SeqCst);
                    if open.load(Ordering::SeqCst) {
                        lane.send(&buffer[..length], server);
                    }
                }
            }
        });
        tasks.spawn({
            let open = open.clone();
            async move {
                let mut lane = to_dialer;
                let mut buffer = vec![0; 65_536];
                while let Ok((length, _)) = back.recv_from(&mut buffer).await {
                    if open.load(Ordering::SeqCst) {
                        let to = *dialer.lock();
                        lane.send(&buffer[..length], to);
                    }
                }
            }
        });
        Self {
            address,
            open,
            arrived,
            tasks,
        }
    }

    /// Lets packets pass, or swallows them.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
        assert_eq!(self.tasks.len(), 4);
    }

    /// Packets that the dialer has sent here.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::SeqCst)
    }
}

fn socket() -> UdpSocket {
    let socket = std::net::UdpSocket::bind(local()).unwrap();
    socket.set_nonblocking(true).unwrap();
    UdpSocket::from_std(socket).unwrap()
}

/// One direction for packets.
struct Lane {
    queue: mpsc::Sender<(Instant, Vec<u8>, SocketAddr)>,
    delay: Duration,
    losses: Losses,
}

impl Lane {
    fn new(tasks: &mut JoinSet<()>, socket: Arc<UdpSocket>, weather: Weather, seed: u64) -> Self {
        let (queue, mut packets) = mpsc::channel::<(Instant, Vec<u8>, SocketAddr)>(ON_THE_WAY);
        tasks.spawn(async move {
            while let Some((due, packet, to)) = packets.recv().await {
                tokio::time::sleep_until(due).await;
                let _ = socket.send_to(&packet, to).await;
            }
        });
        Self {
            queue,
            delay: weather.delay,
            losses: Losses::new(weather, seed),
        }
    }

    fn send(&mut self, packet: &[u8], to: SocketAddr) {
        if self.losses.next() {
            return;
        }
        let due = Instant::now() + self.delay;
        let _ = self.queue.try_send((due, packet.to_vec(), to));
    }
}

/// A TCP relay for any number of dialers.
pub(crate) struct StreamRelay {
    pub(crate) address: SocketAddr,
    connections: Arc<Mutex<JoinSet<()>>>,
    open: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

impl StreamRelay {
    pub(crate) async fn with(server: SocketAddr, weather: Weather) -> Self {
        let listener = TcpListener::bind(local()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let open = Arc::new(AtomicBool::new(true));
        let accepted = Arc::new(AtomicU64::new(0));
        let mut accepting = JoinSet::new();
        accepting.spawn({
            let (connections, open) = (connections.clone(), open.clone());
            let accepted = accepted.clone();
            async move {
                while let Ok((near, _)) = listener.accept().await {
                    accepted.fetch_add(1, Ordering::SeqCst);
                    if open.load(Ordering::SeqCst) {
                        connections.lock().spawn(relay(near, server, weather));
                    }
                }
            }
        });
        Self {
            address,
            connections,
            open,
            accepted,
            _accepting: accepting,
        }
    }

    /// Connections taken so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Breaks all connections, and takes no new ones until it is opened again.
    pub(crate) fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
        self.connections.lock().abort_all();
    }

    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

async fn relay(near: TcpStream, server: SocketAddr, weather: Weather) {
    let Ok(far) = TcpStream::connect(server).await else {
        return;
    };
    for socket in [&near, &far] {
        socket.set_nodelay(true).unwrap();
    }
    let (near, far) = (near.into_split(), far.into_split());
    tokio::join!(
        flow(near.0, far.1, weather.delay),
        flow(far.0, near.1, weather.delay)
    );
}

/// One direction of a connection, with its end.
async fn flow(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (queue, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let reading = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let piece = (Instant::now() + delay, buffer[..length].to_vec());
            if queue.send(piece).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
