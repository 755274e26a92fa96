//! The rows of the table: which peers, which load, how long.
//! Must not know how processes are started.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::{Driver, Place};
use crate::figures::Figures;
use crate::lab::Path;
use crate::machine::{self, Usage};
use crate::peer::Peer;

/// How much is measured.
pub(super) struct Size {
    pub(super) rounds: usize,
    pub(super) far_rounds: usize,
    /// Of a series of requests.
    millis: u64,
    bulk_mib: u64,
    messages: u64,
    handshakes: usize,
    /// Of urgent requests beside bulk.
    beside: u64,
    far: u64,
    far_settle: u64,
}

impl Size {
    /// Within four minutes.
    pub(super) const QUICK: Self = Self {
        rounds: 3,
        far_rounds: 1,
        millis: 300,
        bulk_mib: 256,
        messages: 1_000_000,
        handshakes: 150,
        beside: 800,
        far: 3000,
        far_settle: 2000,
    };
    /// Half an hour.
    pub(super) const FULL: Self = Self {
        rounds: 5,
        far_rounds: 5,
        millis: 2000,
        bulk_mib: 1024,
        messages: 5_000_000,
        handshakes: 500,
        beside: 5000,
        far: 10_000,
        far_settle: 5000,
    };
}

const ALL: [Peer; 7] = [
    Peer::Valkyrie,
    Peer::Quinn,
    Peer::QuinnLong,
    Peer::Tcp,
    Peer::Tonic,
    Peer::TonicStream,
    Peer::Nats,
];
/// Connections that are held at once.
const LIVE: usize = 20_000;
/// Processes of clients for that: each may have so many sockets only.
const CLIENTS: usize = 4;
/// Connections of raw quinn whose memory is compared.
const COMPARED: usize = 2000;
/// How long the network is cut.
const CUT: Duration = Duration::from_secs(5);

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The rows on loopback.
pub(super) fn near(driver: &mut Driver, size: &Size) -> Result<()> {
    let ms = size.millis;
    for (row, place) in [("echo-apart", Place::Apart), ("echo-same", Place::Same)] {
        for peer in ALL {
            let load = words(&format!("echo --depth=1 --millis={ms}"));
            driver.measure(row, peer, place, &load)?;
        }
    }
    for peer in [Peer::Valkyrie, Peer::Quinn, Peer::QuinnLong, Peer::Tonic] {
        let load = words(&format!("echo --depth=64 --millis={ms}"));
        let peak = driver.measure("echo-64", peer, Place::Apart, &load)?;
        let peak = peak.and_then(|figures| figures.get("per_s").copied());
        for (row, share) in [("open-50", 0.5), ("open-80", 0.8)] {
            let Some(peak) = peak.filter(|_| peer != Peer::QuinnLong) else {
                continue;
            };
            let rate = (peak * share) as u64;
            let load = words(&format!("open --rate={rate} --millis={ms}"));
            driver.measure(row, peer, Place::Apart, &load)?;
        }
    }
    let streams = [
        Peer::Valkyrie,
        Peer::Quinn,
        Peer::ValkyrieTcp,
        Peer::Tcp,
        Peer::Tonic,
    ];
    for peer in streams {
        let load = words(&format!("bulk --mib={}", size.bulk_mib));
        driver.measure("bulk", peer, Place::Apart, &load)?;
    }
    for peer in [
        Peer::Valkyrie,
        Peer::Quinn,
        Peer::Tcp,
        Peer::Tonic,
        Peer::Nats,
    ] {
        let load = words(&format!("messages --count={}", size.messages));
        driver.measure("messages", peer, Place::Apart, &load)?;
    }
    for peer in streams {
        let load = words(&format!("handshake --count={}", size.handshakes));
        driver.measure("handshake", peer, Place::Apart, &load)?;
    }
    for peer in [Peer::Valkyrie, Peer::Quinn, Peer::ValkyrieTcp, Peer::Tcp] {
        let ms = size.beside;
        let load = words(&format!("beside --streams=4 --millis={ms} --settle=300"));
        driver.measure("control-near", peer, Place::Apart, &load)?;
    }
    let ours = Peer::Valkyrie;
    let loads = [
        (
            "logs-most",
            format!("logs --streams=8 --rate=0 --millis={}", ms * 4),
        ),
        (
            "logs-rate",
            format!("logs --streams=8 --rate=100000 --millis={}", ms * 4),
        ),
        (
            "offers-1",
            format!("offers --agents=1 --rate=0 --millis={ms}"),
        ),
        (
            "offers-1000",
            format!("offers --agents=1000 --rate=20000 --millis={}", ms * 2),
        ),
    ];
    for (row, load) in loads {
        driver.measure(row, ours, Place::Apart, &words(&load))?;
    }
    Ok(())
}

/// The rows on a path of 100 Mbit/s and 50 ms.
pub(super) fn far(driver: &mut Driver, size: &Size) -> Result<()> {
    let beside = |streams: usize| {
        words(&format!(
            "beside --streams={streams} --millis={} --settle={} --without-alone",
            size.far, size.far_settle
        ))
    };
    for (row, loss) in [("far", 0), ("far-loss", 10)] {
        if !driver.wants(row) {
            continue;
        }
        driver.path(Path::far(loss))?;
        for peer in [Peer::Valkyrie, Peer::Quinn, Peer::ValkyrieTcp, Peer::Tcp] {
            driver.measure(row, peer, Place::Far, &beside(4))?;
        }
    }
    if driver.wants("far-hundred") {
        driver.path(Path::far(0))?;
        for peer in [Peer::Valkyrie, Peer::Quinn] {
            driver.measure("far-hundred", peer, Place::Far, &beside(100))?;
        }
    }
    if driver.wants("reconnect") {
        driver.path(Path::far(0))?;
        for peer in [Peer::Valkyrie, Peer::ValkyrieTcp] {
            reconnect(driver, peer)?;
        }
    }
    Ok(())
}

/// Cuts the path under a client that asks all the time.
fn reconnect(driver: &mut Driver, peer: Peer) -> Result<()> {
    let machine = machine::busy()?;
    let mut running = driver.serve(peer, Place::Far)?;
    let before = running.server.usage()?;
    let load = words("reconnect --millis=12000");
    let mut client = driver.client(peer, &running, &load)?;
    std::thread::sleep(Duration::from_millis(1500));
    driver.lab()?.cut(true)?;
    std::thread::sleep(CUT);
    driver.lab()?.cut(false)?;
    let opened = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let answer = client.line()?;
    let mut figures: Figures = serde_json::from_value(answer["figures"].clone())?;
    let again = figures.get("again_at_s").copied().unwrap_or_default();
    figures.insert("again_ms".into(), (again - opened) * 1000.0);
    used(&mut figures, before, running.server.usage()?);
    driver.record("reconnect", peer, figures, machine)
}

/// What the server has used meanwhile.
pub(super) fn used(figures: &mut Figures, before: Usage, after: Usage) {
    figures.insert("server_cpu_s".into(), after.cpu - before.cpu);
    figures.insert("server_rss_kb".into(), after.rss_kb);
}

/// Very many connections; once, since it takes long.
pub(super) fn many(driver: &mut Driver, _: &Size) -> Result<()> {
    if !driver.wants("idle") {
        return Ok(());
    }
    for (peer, clients, each) in [
        (Peer::Quinn, 1, COMPARED),
        (Peer::Valkyrie, CLIENTS, LIVE / CLIENTS),
    ] {
        let machine = machine::busy()?;
        let mut running = driver.serve(peer, Place::Apart)?;
        let before = running.server.usage()?;
        let mut holding = Vec::new();
        let (mut rate, mut spent) = (0.0, Usage::default());
        for _ in 0..clients {
            let load = words(&format!("hold --count={each}"));
            let mut client = driver.client(peer, &running, &load)?;
            let up = client.line()?;
            rate += up["figures"]["accepted_per_s"].as_f64().unwrap_or_default();
            let usage: Usage = serde_json::from_value(up["usage"].clone())?;
            spent.cpu += usage.cpu;
            spent.rss_kb += usage.rss_kb;
            holding.push(client);
        }
        let after = running.server.usage()?;
        let count = (clients * each) as f64;
        let mut live = 0.0;
        for client in &mut holding {
            live += client.ask("live")?["live"].as_f64().unwrap_or_default();
        }
        let mut figures = Figures::new();
        let kept = (after.rss_kb - before.rss_kb) / count;
        figures.insert("kb_per_connection".into(), kept);
        figures.insert("live".into(), live);
        figures.insert("accepted_per_s".into(), rate / clients as f64);
        used(&mut figures, before, after);
        figures.insert("client_cpu_s".into(), spent.cpu);
        figures.insert("client_rss_kb".into(), spent.rss_kb);
        driver.record("idle", peer, figures, machine)?;
    }
    Ok(())
}
