//! Connections: how quickly they come up, and how many are held.
//! Must not close one that is to be held.

use std::time::Instant;

use anyhow::Result;
use futures::StreamExt;
use serde_json::json;
use valkyrie::endpoint::Sockets;

use super::Options;
use crate::figures::{Figures, Latencies};
use crate::peer::{Client, Peer, ours, raw};
use crate::serve::{lines, print};
use crate::{machine, pki};

/// Connections that come up at once when many are to be held.
const AT_ONCE: usize = 16;

/// One connection after the other, each until the server has answered.
pub(super) async fn handshakes(
    options: &Options,
    count: usize,
    figures: &mut Figures,
) -> Result<()> {
    let mut latencies = Latencies::new();
    let (peer, pki) = (options.common.peer, &options.common.pki);
    // Keys are read and made before, as a program does at its start.
    let sockets = Sockets::new();
    let mut identity = None;
    let mut endpoint = None;
    match peer {
        Peer::Valkyrie | Peer::ValkyrieTcp => identity = Some(pki::identity(pki, "client")?),
        Peer::Quinn | Peer::QuinnLong => endpoint = Some(raw::client(pki)?),
        _ => {}
    }
    for round in 0..count + count / 10 {
        let start = Instant::now();
        let client = match (&identity, &endpoint) {
            (Some(identity), _) => {
                Client::Ours(ours::dial(peer, identity.clone(), &sockets, options.server).await?)
            }
            (_, Some(endpoint)) => Client::Raw {
                quic: raw::connect(endpoint, options.server).await?,
                long: false,
            },
            _ => Client::connect(peer, pki, options.server).await?,
        };
        if round >= count / 10 {
            latencies.since(start);
        }
        drop(client);
    }
    latencies.describe(figures);
    Ok(())
}

/// Makes connections, says so, and holds them until standard input ends.
pub(super) async fn hold(options: &Options, count: usize) -> Result<()> {
    let (peer, pki) = (options.common.peer, &options.common.pki);
    let start = Instant::now();
    let identity = pki::identity(pki, "client")?;
    let sockets = Sockets::new();
    let endpoint = match peer {
        Peer::Quinn => Some(raw::client(pki)?),
        _ => None,
    };
    let connecting = futures::stream::iter(0..count).map(|_| async {
        anyhow::Ok(match &endpoint {
            Some(endpoint) => Client::Raw {
                quic: raw::connect(endpoint, options.server).await?,
                long: false,
            },
            None => {
                Client::Ours(ours::dial(peer, identity.clone(), &sockets, options.server).await?)
            }
        })
    });
    let connected: Vec<_> = connecting.buffer_unordered(AT_ONCE).collect().await;
    let clients = connected.into_iter().collect::<Result<Vec<_>>>()?;
    let mut figures = Figures::new();
    let per_second = count as f64 / start.elapsed().as_secs_f64();
    figures.insert("accepted_per_s".into(), per_second);
    print(&json!({ "figures": figures, "usage": machine::usage()? }));
    let mut lines = lines();
    while lines.recv().await.is_some() {
        print(&json!({ "live": live(&clients).await }));
    }
    // The process ends without closing them one by one.
    std::process::exit(0);
}

/// How many answer.
async fn live(clients: &[Client]) -> usize {
    let asking = futures::stream::iter(clients).map(|client| async {
        let caller = client.caller(false).await.ok()?;
        caller.echo(super::small()).await.ok()
    });
    let answers = asking.buffer_unordered(AT_ONCE);
    answers.filter_map(std::future::ready).count().await
}
