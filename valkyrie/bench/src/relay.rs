//! A path between two network interfaces: so many bits a second, a queue, a delay, and losses.
//! Must not look into the packets.

use std::io::BufRead;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::serve::print;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The interfaces it lies between.
    #[arg(long, num_args = 2)]
    pub(crate) between: Vec<String>,
    /// Of the narrowest link, in each direction.
    #[arg(long)]
    pub(crate) mbit: u64,
    /// In each direction.
    #[arg(long)]
    pub(crate) delay_ms: u64,
    /// Packets that wait longer than this for the link are lost.
    #[arg(long)]
    pub(crate) queue_ms: u64,
    /// Packets in a thousand that are lost anyway.
    #[arg(long)]
    pub(crate) loss_permille: u64,
}

/// Packets on their way; more are lost.
const ON_THE_WAY: usize = 16_384;
const SOCKET_BUFFER: usize = 8 * 1024 * 1024;
/// Larger than any frame on the interfaces.
const FRAME: usize = 65_536;

/// Carries packets until standard input ends. The line `cut` loses all, `open` ends that.
pub(crate) fn relay(options: &Options) -> Result<()> {
    let [a, b] = [&options.between[0], &options.between[1]];
    let (a, b) = (Arc::new(open(a)?), Arc::new(open(b)?));
    let cut = Arc::new(AtomicBool::new(false));
    for (seed, from, to) in [(1, &a, &b), (2, &b, &a)] {
        let (lane, frames) = mpsc::sync_channel(ON_THE_WAY);
        let to = to.clone();
        std::thread::spawn(move || deliver(&to, &frames));
        let lane = Lane {
            options: options.clone(),
            cut: cut.clone(),
            to: lane,
            free: Instant::now(),
            random: seed,
        };
        let from = from.clone();
        std::thread::spawn(move || lane.carry(&from));
    }
    print(&serde_json::json!({ "ready": true }));
    for line in std::io::stdin().lock().lines() {
        cut.store(line? == "cut", Ordering::SeqCst);
        print(&serde_json::json!({ "done": true }));
    }
    Ok(())
}

/// A socket that takes and gives whole frames of an interface.
fn open(interface: &str) -> Result<OwnedFd> {
    let all = SockProtocol::EthAll;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        all,
    )?;
    let address = nix::ifaddrs::getifaddrs()?
        .filter(|it| it.interface_name == interface)
        .find_map(|it| it.address?.as_link_addr().copied())
        .with_context(|| format!("there is no interface {interface}"))?;
    bind(socket.as_raw_fd(), &address)?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER)?;
    Ok(socket)
}

/// One direction.
struct Lane {
    options: Options,
    cut: Arc<AtomicBool>,
    to: mpsc::SyncSender<(Instant, Vec<u8>)>,
    /// When the link has sent what it took.
    free: Instant,
    random: u64,
}

impl Lane {
    fn carry(mut self, from: &OwnedFd) {
        let mut frame = vec![0; FRAME];
        while let Ok(length) = recv(from.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            let now = Instant::now();
            if let Some(due) = self.take(length, now) {
                // A full way loses the packet.
                let _ = self.to.try_send((due, frame[..length].to_vec()));
            }
        }
    }

    /// When a frame arrives, unless it is lost.
    fn take(&mut self, length: usize, now: Instant) -> Option<Instant> {
        // A step of a linear congruential generator (Knuth): the same losses in each run.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005);
        self.random = self.random.wrapping_add(1_442_695_040_888_963_407);
        let lost = (self.random >> 33) % 1000 < self.options.loss_permille;
        if lost || self.cut.load(Ordering::Relaxed) {
            return None;
        }
        let begin = self.free.max(now);
        if begin - now > Duration::from_millis(self.options.queue_ms) {
            return None;
        }
        let nanos = length as u64 * 8 * 1000 / self.options.mbit;
        self.free = begin + Duration::from_nanos(nanos);
        Some(self.free + Duration::from_millis(self.options.delay_ms))
    }
}

fn deliver(to: &OwnedFd, frames: &mpsc::Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, frame)) = frames.recv() {
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        // An interface that is down loses the packet.
        let _ = send(to.as_raw_fd(), &frame, MsgFlags::empty());
    }
}
