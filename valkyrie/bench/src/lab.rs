//! Two network namespaces with a path between them: see `relay`.
//! Must not touch the machine's own network.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::child::Child;

/// The server's address in its namespace.
pub(crate) const SERVER: &str = "10.99.7.2";
/// The client's.
const CLIENT: &str = "10.99.7.1";

/// What lies between the two namespaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) mbit: u64,
    pub(crate) delay_ms: u64,
    pub(crate) queue_ms: u64,
    pub(crate) loss_permille: u64,
}

impl Path {
    /// 100 Mbit/s and 50 ms to and fro, with a queue of 50 ms.
    pub(crate) fn far(loss_permille: u64) -> Self {
        Self {
            mbit: 100,
            delay_ms: 25,
            queue_ms: 50,
            loss_permille,
        }
    }
}

/// The namespaces, until it is dropped.
pub(crate) struct Lab {
    pub(crate) client: String,
    pub(crate) server: String,
    relay: Option<Child>,
    between: [String; 2],
}

impl Lab {
    pub(crate) fn new() -> Result<Self> {
        let name = |end: &str| format!("vkb{}{end}", std::process::id() % 100_000);
        let lab = Self {
            client: name("c"),
            server: name("s"),
            relay: None,
            between: [name("x"), name("y")],
        };
        let ends = [
            (&lab.client, CLIENT, &lab.between[0]),
            (&lab.server, SERVER, &lab.between[1]),
        ];
        for (namespace, address, outside) in ends {
            let address = format!("{address}/24");
            run("ip", &["netns", "add", namespace])?;
            let link = ["link", "add", outside, "type", "veth", "peer", "name"];
            run("ip", &[&link[..], &["eth0", "netns", namespace]].concat())?;
            run(
                "ip",
                &["-n", namespace, "addr", "add", &address, "dev", "eth0"],
            )?;
            run("ip", &["-n", namespace, "link", "set", "lo", "up"])?;
            run("ip", &["-n", namespace, "link", "set", "eth0", "up"])?;
            run("ip", &["link", "set", outside, "up"])?;
            // Frames as they are on a wire: not larger, and with their checksums.
            let inside = ["netns", "exec", namespace, "ethtool", "-K", "eth0"];
            let off = ["tx", "off", "gso", "off", "tso", "off", "gro", "off"];
            run("ip", &[&inside[..], &off].concat())?;
            run("ethtool", &["-K", outside, "gro", "off"])?;
        }
        Ok(lab)
    }

    /// Lets packets pass like this from now on.
    pub(crate) fn lay(&mut self, path: Path) -> Result<()> {
        self.relay = None;
        let arguments = [
            "relay".to_owned(),
            "--between".to_owned(),
            self.between[0].clone(),
            self.between[1].clone(),
            format!("--mbit={}", path.mbit),
            format!("--delay-ms={}", path.delay_ms),
            format!("--queue-ms={}", path.queue_ms),
            format!("--loss-permille={}", path.loss_permille),
        ];
        let mut relay = Child::start(None, &arguments)?;
        relay.line()?;
        self.relay = Some(relay);
        Ok(())
    }

    /// Loses everything, or lets it pass again.
    pub(crate) fn cut(&mut self, cut: bool) -> Result<()> {
        let relay = self.relay.as_mut().context("there is no path")?;
        relay.ask(if cut { "cut" } else { "open" }).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.relay = None;
        for namespace in [&self.client, &self.server] {
            // What is not there needs no end.
            let _ = run("ip", &["netns", "del", namespace]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("can't start {program}"))?;
    ensure!(
        status.success(),
        "`{program} {}` failed",
        arguments.join(" ")
    );
    Ok(())
}
