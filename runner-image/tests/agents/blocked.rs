//! A network namespace of its own whose packet filter drops UDP, or all but the way to a proxy.
//! Must not touch the network of the machine but for one pair of linked interfaces.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Namespaces that this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A network with one other host, this machine. Gone when dropped.
pub(crate) struct Namespace {
    name: String,
    /// The address of this machine in it.
    pub(crate) near: Ipv4Addr,
}

impl Namespace {
    /// Makes one; none without the rights or the programs for it.
    pub(crate) fn new() -> Option<Self> {
        let id = std::process::id() + 40_000 * MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("rustci-test-{id}");
        let (near_link, far_link) = (format!("rn{id}"), format!("rf{id}"));
        // 198.18.0.0/15 is for tests of networks (RFC 2544); /30 has two hosts.
        let [_, _, high, low] = (id << 2).to_be_bytes();
        let near = Ipv4Addr::new(198, 18, high, low | 1);
        let far = Ipv4Addr::new(198, 18, high, low | 2);
        if !run(&["ip", "netns", "add", &name]) {
            return None;
        }
        let namespace = Self {
            name: name.clone(),
            near,
        };
        let name = name.as_str();
        let (near, far) = (format!("{near}/30"), format!("{far}/30"));
        let steps: [&[&str]; 6] = [
            &[
                "ip", "link", "add", &near_link, "type", "veth", "peer", "name", &far_link,
                "netns", name,
            ],
            &["ip", "addr", "add", &near, "dev", &near_link],
            &["ip", "link", "set", &near_link, "up"],
            &["ip", "-n", name, "addr", "add", &far, "dev", &far_link],
            &["ip", "-n", name, "link", "set", &far_link, "up"],
            &["ip", "-n", name, "link", "set", "lo", "up"],
        ];
        steps.into_iter().all(run).then_some(namespace)
    }

    /// What stands in front of a program that runs in it.
    pub(crate) fn enter(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Drops every packet that a rule of iptables matches.
    pub(crate) fn drop_packets(&self, rule: &[&str]) {
        let enter = self.enter();
        let head = ["iptables", "-A", "OUTPUT"];
        let all = [&enter[..], &head, rule, &["-j", "DROP"]].concat();
        assert!(run(&all), "{all:?}");
    }

    /// An address of this machine in it with a free port.
    pub(crate) fn any_port(&self) -> SocketAddr {
        SocketAddr::from((self.near, 0))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The pair of links goes with it.
        run(&["ip", "netns", "delete", &self.name]);
    }
}

/// An HTTP proxy on this address that passes only CONNECT; ends with the test.
pub(crate) async fn proxy(address: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(tunnel(socket));
        }
    });
    address
}

async fn tunnel(mut near: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 4096 || near.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&head);
    let Some(rest) = head.strip_prefix("CONNECT ") else {
        return;
    };
    let server = rest.split(' ').next().unwrap_or_default();
    let mut far = TcpStream::connect(server).await.unwrap();
    let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
    near.write_all(answer).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}

fn run(words: &[&str]) -> bool {
    let done = Command::new(words[0]).args(&words[1..]).output();
    done.is_ok_and(|done| done.status.success())
}
