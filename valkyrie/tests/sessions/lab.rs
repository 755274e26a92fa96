//! Two hosts of a network of their own, whose packets are delayed and lost on their way: what TCP
//! makes of that is the kernel's work. Must not touch the network of the machine.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::relay::{Losses, Weather};

/// Packets on their way; more are lost.
const ON_THE_WAY: usize = 16_384;
/// Larger than any frame on the interfaces.
const FRAME: usize = 65_536;

/// Labs that this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A dialer's host and a server's, and the way between them. The thread that makes one is on the
/// dialer's host until it is dropped there.
pub(crate) struct Lab {
    names: [String; 3],
    home: File,
    lost: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// Whether this machine cannot have a lab; a run of all tests fails then.
pub(crate) fn is_missing() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    let possible = *POSSIBLE.get_or_init(|| Lab::new(Weather::default()).is_some());
    let all = std::env::var_os("RUSTCI_TEST_ALL").is_some();
    assert!(
        possible || !all,
        "no network namespaces here (they need root, ip and ethtool)"
    );
    if !possible {
        tracing::warn!("no network namespaces here: nothing is lost on the way of TCP");
    }
    !possible
}

impl Lab {
    /// None without the rights or the programs for it.
    pub(crate) fn new(weather: Weather) -> Option<Self> {
        let home = File::open("/proc/thread-self/ns/net").ok()?;
        let id = std::process::id();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let names = ["near", "way", "far"].map(|end| format!("vk-{id}-{number}-{end}"));
        let mut lab = Self {
            names,
            home,
            lost: Arc::default(),
            threads: Vec::new(),
        };
        lab.build().then_some(())?;
        lab.threads = lab.carry(weather)?;
        lab.enter(Host::Near);
        Some(lab)
    }

    fn build(&self) -> bool {
        let [near, way, far] = self.names.each_ref().map(String::as_str);
        let added = [near, way, far].map(|name| run(&["ip", "netns", "add", name]));
        let ends = [
            (near, "10.99.7.1/24", "way1"),
            (far, "10.99.7.2/24", "way2"),
        ];
        added == [true; 3]
            && ends.into_iter().all(|(host, address, outside)| {
                let link = [
                    "ip", "-n", host, "link", "add", "eth0", "type", "veth", "peer", "name",
                ];
                let features = ["tx", "off", "gso", "off", "tso", "off", "gro", "off"];
                let ethtool = ["ip", "netns", "exec", host, "ethtool", "-K", "eth0"];
                let of_way = [
                    "ip", "netns", "exec", way, "ethtool", "-K", outside, "gro", "off",
                ];
                run(&[&link[..], &[outside, "netns", way]].concat())
                && run(&["ip", "-n", host, "addr", "add", address, "dev", "eth0"])
                // Frames as they are on a wire: not larger, and with their checksums.
                && run(&[&ethtool[..], &features].concat())
                && run(&of_way)
                && run(&["ip", "-n", host, "link", "set", "lo", "up"])
                && run(&["ip", "-n", host, "link", "set", "eth0", "up"])
                && run(&["ip", "-n", way, "link", "set", outside, "up"])
            })
    }

    /// Carries frames both ways, until the interfaces are gone.
    fn carry(&self, weather: Weather) -> Option<Vec<JoinHandle<()>>> {
        let [_, way, _] = &self.names;
        enter(&namespace(way)?)?;
        let sockets = (open("way1"), open("way2"));
        enter(&self.home)?;
        let (a, b) = (Arc::new(sockets.0?), Arc::new(sockets.1?));
        let mut threads = Vec::new();
        for (seed, from, to) in [(1, &a, &b), (2, &b, &a)] {
            let (lane, frames) = mpsc::sync_channel(ON_THE_WAY);
            let (from, to, lost) = (from.clone(), to.clone(), self.lost.clone());
            threads.push(std::thread::spawn(move || deliver(&to, &frames)));
            threads.push(std::thread::spawn(move || {
                let mut losses = Losses::new(weather, seed);
                let mut frame = vec![0; FRAME];
                while let Ok(length) = recv(from.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                    if losses.next() {
                        lost.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let due = Instant::now() + weather.delay;
                    // A full way loses the packet.
                    let _ = lane.try_send((due, frame[..length].to_vec()));
                }
            }));
        }
        Some(threads)
    }

    /// What this thread opens from now on is on that host.
    pub(crate) fn enter(&self, host: Host) {
        let [near, _, far] = &self.names;
        let name = match host {
            Host::Near => near,
            Host::Far => far,
        };
        namespace(name)
            .and_then(|file| enter(&file))
            .expect("the lab was built");
    }

    /// Where a server on the far host may listen.
    pub(crate) fn any_port() -> SocketAddr {
        SocketAddr::from(([10, 99, 7, 2], 0))
    }

    /// Packets lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// One of the two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Host {
    /// The dialer's.
    Near,
    /// The server's.
    Far,
}

impl Drop for Lab {
    fn drop(&mut self) {
        enter(&self.home).expect("where the thread came from");
        let [near, _, far] = &self.names;
        for host in [near, far] {
            // Its other end goes with it, and with both the threads; sockets may outlive the names.
            run(&["ip", "-n", host, "link", "delete", "eth0"]);
        }
        for name in &self.names {
            run(&["ip", "netns", "delete", name]);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn deliver(to: &OwnedFd, frames: &mpsc::Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, frame)) = frames.recv() {
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        // An interface that is gone loses the packet.
        let _ = send(to.as_raw_fd(), &frame, MsgFlags::empty());
    }
}

/// A socket that takes and gives whole frames of an interface.
fn open(interface: &str) -> Option<OwnedFd> {
    let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let socket = socket(AddressFamily::Packet, kind.0, kind.1, kind.2).ok()?;
    let mut addresses = nix::ifaddrs::getifaddrs().ok()?;
    let address = addresses.find_map(|it| {
        let ours = it.interface_name == interface;
        it.address?.as_link_addr().copied().filter(|_| ours)
    })?;
    bind(socket.as_raw_fd(), &address).ok()?;
    Some(socket)
}

fn namespace(name: &str) -> Option<File> {
    File::open(Path::new("/run/netns").join(name)).ok()
}

fn enter(namespace: &File) -> Option<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).ok()
}

fn run(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}
