//! The server calls its clients: an offer, and its acceptance.
//! Must not use a transport other than the session that is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use valkyrie::endpoint::{CallError, CallOptions, Code, Session, Sockets};

use super::pace::Pace;
use super::{Options, millis, ours, small};
use crate::figures::{Figures, Latencies};
use crate::peer::ours::{OFFER, OFFERS, dial};
use crate::pki;

/// What the server is asked to do.
#[derive(Debug, Serialize, Deserialize)]
struct Wish {
    rate: u64,
    millis: u64,
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Connects the clients and asks the server to make them offers.
pub(super) async fn ask(
    options: &Options,
    agents: usize,
    rate: u64,
    duration: u64,
    figures: &mut Figures,
) -> Result<()> {
    ours(options.common.peer)?;
    let identity = pki::identity(&options.common.pki, "agent")?;
    // Each has a socket of its own, as agents on other machines have.
    let connecting = futures::stream::iter(0..agents).map(|_| async {
        let sockets = Sockets::new();
        dial(
            options.common.peer,
            identity.clone(),
            &sockets,
            options.server,
        )
        .await
    });
    let connected: Vec<_> = connecting.buffer_unordered(16).collect().await;
    let sessions = connected.into_iter().collect::<Result<Vec<_>>>()?;
    let wish = Wish {
        rate,
        millis: duration,
    };
    let body = serde_json::to_vec(&wish)?.into();
    let first = sessions.first().context("no agents")?;
    let answer = first.call(OFFERS, body, CallOptions::new(PATIENCE)).await?;
    figures.extend(serde_json::from_slice::<Figures>(&answer)?);
    Ok(())
}

/// At the server: makes the offers and gives the figures.
pub(crate) async fn make(sessions: &[Session], wish: &[u8]) -> Result<Bytes, CallError> {
    let failed = |error: anyhow::Error| CallError::new(Code::Internal, format!("{error:#}"));
    let wish: Wish = serde_json::from_slice(wish)
        .map_err(|error| CallError::new(Code::InvalidArgument, error.to_string()))?;
    let made = match wish.rate {
        0 => one_by_one(sessions, wish.millis).await,
        rate => at(sessions, rate, wish.millis).await,
    };
    let latencies = made.map_err(failed)?;
    let mut figures = Figures::new();
    latencies.describe(&mut figures);
    let per_second = latencies.len() as f64 * 1000.0 / wish.millis as f64;
    figures.insert("per_s".into(), per_second);
    let text = serde_json::to_vec(&figures).map_err(|error| failed(error.into()))?;
    Ok(text.into())
}

async fn offer(session: &Session) -> Result<()> {
    session
        .call(OFFER, small(), CallOptions::new(PATIENCE))
        .await?;
    Ok(())
}

async fn one_by_one(sessions: &[Session], duration: u64) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    let end = Instant::now() + millis(duration);
    for session in sessions.iter().cycle() {
        let start = Instant::now();
        if start >= end {
            break;
        }
        offer(session).await?;
        latencies.since(start);
    }
    Ok(latencies)
}

async fn at(sessions: &[Session], rate: u64, duration: u64) -> Result<Latencies> {
    let latencies = Arc::new(Mutex::new(Latencies::new()));
    let mut pace = Pace::new(millis(1))?;
    let mut offers = JoinSet::new();
    let mut made = 0;
    for tick in 1..=duration {
        let due = pace.tick().await?;
        while made < tick * rate / 1000 {
            let session = sessions[made as usize % sessions.len()].clone();
            made += 1;
            let latencies = latencies.clone();
            offers.spawn(async move {
                offer(&session).await?;
                latencies.lock().since(due);
                anyhow::Ok(())
            });
        }
        while let Some(done) = offers.try_join_next() {
            done??;
        }
    }
    while let Some(done) = offers.join_next().await {
        done??;
    }
    let latencies = std::mem::replace(&mut *latencies.lock(), Latencies::new());
    Ok(latencies)
}
