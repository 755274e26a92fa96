//! The server's process: starts one peer's server and tells what it has used when asked.
//! Must not outlive its standard input.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use tokio::sync::mpsc;

use crate::peer::{Peer, Service, framed, grpc, nats, ours, raw};
use crate::{Common, machine};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Where to listen; of NATS, where its server listens.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
}

/// Serves; every line on standard input is answered with what was used so far.
pub(crate) async fn serve(options: Options) -> Result<()> {
    let service = Arc::new(Service::default());
    let pki: &PathBuf = &options.common.pki;
    let listen = options.listen;
    let mut kept = None;
    let address = match options.common.peer {
        peer @ (Peer::Valkyrie | Peer::ValkyrieTcp) => {
            let (address, server) = ours::serve(peer, pki, listen, service).await?;
            kept = Some(server);
            address
        }
        Peer::Quinn | Peer::QuinnLong => raw::serve(pki, listen, service)?,
        Peer::Tcp => framed::serve(pki, listen, service).await?,
        Peer::Tonic | Peer::TonicStream => grpc::serve(pki, listen, service).await?,
        Peer::Nats => {
            nats::serve(listen, service).await?;
            listen
        }
    };
    print(&json!({ "address": address.to_string() }));
    let mut lines = lines();
    while lines.recv().await.is_some() {
        print(&serde_json::to_value(machine::usage()?)?);
    }
    drop(kept);
    Ok(())
}

/// One line of JSON on standard output.
#[expect(clippy::print_stdout, reason = "the driver reads it")]
pub(crate) fn print(value: &serde_json::Value) {
    println!("{value}");
}

/// The lines of standard input, read by a thread that only waits. At most one waits unread.
pub(crate) fn lines() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
