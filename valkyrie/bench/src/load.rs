//! The client's process: one load on one connection, and what it measured.
//! Must not decide what is good.

mod beside;
mod echo;
mod held;
pub(crate) mod logs;
pub(crate) mod offers;
mod pace;
mod reconnect;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::figures::Figures;
use crate::peer::{Client, Peer, SMALL};
use crate::serve::print;
use crate::{Common, machine};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Where the server listens.
    #[arg(long)]
    pub(crate) server: SocketAddr,
    #[command(subcommand)]
    pub(crate) kind: Kind,
}

/// What is done.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Kind {
    /// Requests one after the other, by so many callers at once
    Echo {
        #[arg(long)]
        depth: usize,
        #[arg(long)]
        millis: u64,
    },
    /// Requests at a fixed rate, whether or not the earlier ones are answered
    Open {
        #[arg(long)]
        rate: u64,
        #[arg(long)]
        millis: u64,
    },
    /// Many bytes on one stream
    Bulk {
        #[arg(long)]
        mib: u64,
    },
    /// Many small messages
    Messages {
        #[arg(long)]
        count: u64,
    },
    /// Connects again and again
    Handshake {
        #[arg(long)]
        count: usize,
    },
    /// Keeps idle connections until standard input ends
    Hold {
        #[arg(long)]
        count: usize,
    },
    /// Urgent requests every 2 ms beside bulk, and bulk alone
    Beside {
        #[arg(long)]
        streams: usize,
        #[arg(long)]
        millis: u64,
        /// Time for bulk to find its speed first.
        #[arg(long)]
        settle: u64,
        /// Only beside, not alone.
        #[arg(long)]
        without_alone: bool,
    },
    /// Log lines of 128 bytes until they are durable: as many as can be, or at a rate
    Logs {
        #[arg(long)]
        streams: usize,
        #[arg(long)]
        millis: u64,
        /// Lines in a second; 0 for as many as can be.
        #[arg(long)]
        rate: u64,
    },
    /// The server offers to so many clients
    Offers {
        #[arg(long)]
        agents: usize,
        /// Offers in a second; 0 for one after the other.
        #[arg(long)]
        rate: u64,
        #[arg(long)]
        millis: u64,
    },
    /// Requests one after the other, each with its time, while the network is cut
    Reconnect {
        #[arg(long)]
        millis: u64,
    },
}

/// Does it and prints figures and what this process has used.
pub(crate) async fn load(options: Options) -> Result<()> {
    let mut figures = Figures::new();
    let common = &options.common;
    let (peer, pki, server) = (common.peer, &common.pki, options.server);
    let connect = || Client::connect(peer, pki, server);
    let started = machine::usage()?;
    match options.kind {
        Kind::Echo { depth, millis } => {
            echo::closed(&connect().await?, depth, millis, &mut figures).await?;
        }
        Kind::Open { rate, millis } => {
            echo::open(&connect().await?, rate, millis, &mut figures).await?;
        }
        Kind::Bulk { mib } => bulk(&connect().await?, mib, &mut figures).await?,
        Kind::Messages { count } => messages(&connect().await?, count, &mut figures).await?,
        Kind::Handshake { count } => held::handshakes(&options, count, &mut figures).await?,
        Kind::Hold { count } => return held::hold(&options, count).await,
        Kind::Beside {
            streams,
            millis,
            settle,
            without_alone,
        } => {
            let beside = beside::Beside {
                client: connect().await?,
                streams,
                settle,
                millis,
                alone: if without_alone { 0 } else { millis / 2 },
            };
            beside.measure(&mut figures).await?;
        }
        Kind::Logs {
            streams,
            millis,
            rate,
        } => logs::write(&options, streams, millis, rate, &mut figures).await?,
        Kind::Offers {
            agents,
            rate,
            millis,
        } => offers::ask(&options, agents, rate, millis, &mut figures).await?,
        Kind::Reconnect { millis } => {
            reconnect::measure(&connect().await?, millis, &mut figures).await?;
        }
    }
    let used = machine::usage()?;
    figures.insert("client_cpu_s".into(), used.cpu - started.cpu);
    figures.insert("client_rss_kb".into(), used.rss_kb);
    print(&json!({ "figures": figures }));
    Ok(())
}

async fn bulk(client: &Client, mib: u64, figures: &mut Figures) -> Result<()> {
    // The congestion window and the buffers are those of a connection in use.
    client.bulk(16 * 1024 * 1024).await?;
    let start = Instant::now();
    client.bulk(mib * 1024 * 1024).await?;
    let passed = start.elapsed().as_secs_f64();
    let bits = (mib * 1024 * 1024 * 8) as f64;
    figures.insert("gbit_s".into(), bits / passed / 1e9);
    Ok(())
}

async fn messages(client: &Client, count: u64, figures: &mut Figures) -> Result<()> {
    client.messages(count / 20).await?;
    let start = Instant::now();
    client.messages(count).await?;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    figures.insert("per_s".into(), rate);
    Ok(())
}

/// A small message.
fn small() -> bytes::Bytes {
    bytes::Bytes::from_static(&[7; SMALL])
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Whether the peer is Valkyrie, for what only it has.
fn ours(peer: Peer) -> Result<()> {
    let ours = matches!(peer, Peer::Valkyrie | Peer::ValkyrieTcp);
    anyhow::ensure!(ours, "only Valkyrie does this");
    Ok(())
}
