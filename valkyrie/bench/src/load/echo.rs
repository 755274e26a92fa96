//! Requests and answers: closed loop and open loop.
//! Must not leave out a slow answer.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::pace::Pace;
use super::{millis, small};
use crate::figures::{Figures, Latencies};
use crate::peer::Client;

/// So many callers at once, each of them one request after the other.
pub(super) async fn closed(
    client: &Client,
    depth: usize,
    duration: u64,
    figures: &mut Figures,
) -> Result<()> {
    let mut callers = JoinSet::new();
    let warm = Instant::now() + millis(duration / 5);
    let end = warm + millis(duration);
    // One for all: as many as there are callers would cost more time than it measures.
    let all = Arc::new(Mutex::new(Latencies::new()));
    for _ in 0..depth {
        let (caller, latencies) = (client.caller(false).await?, all.clone());
        callers.spawn(async move {
            loop {
                let start = Instant::now();
                if start >= end {
                    return anyhow::Ok(());
                }
                caller.echo(small()).await?;
                if start >= warm {
                    latencies.lock().since(start);
                }
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    let all = all.lock();
    all.describe(figures);
    let per_second = all.len() as f64 * 1000.0 / duration as f64;
    figures.insert("per_s".into(), per_second);
    Ok(())
}

/// So many requests a second, in bursts of a millisecond. The time counts from when a request
/// should have been made.
pub(super) async fn open(
    client: &Client,
    rate: u64,
    duration: u64,
    figures: &mut Figures,
) -> Result<()> {
    let caller = Arc::new(client.caller(false).await?);
    let latencies = Arc::new(Mutex::new(Latencies::new()));
    let mut pace = Pace::new(millis(1))?;
    let mut requests = JoinSet::new();
    let mut made = 0;
    for tick in 1..=duration {
        let due = pace.tick().await?;
        while made < tick * rate / 1000 {
            made += 1;
            let (caller, latencies) = (caller.clone(), latencies.clone());
            requests.spawn(async move {
                caller.echo(small()).await?;
                latencies.lock().since(due);
                anyhow::Ok(())
            });
        }
        while let Some(done) = requests.try_join_next() {
            done??;
        }
    }
    while let Some(done) = requests.join_next().await {
        done??;
    }
    latencies.lock().describe(figures);
    figures.insert("per_s".into(), rate as f64);
    Ok(())
}
