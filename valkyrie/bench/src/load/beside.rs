//! Urgent requests beside bulk that takes what it gets, and bulk alone before and after.
//! Must not count bytes that have not arrived.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::pace::Pace;
use super::{millis, small};
use crate::figures::{Figures, Latencies};
use crate::peer::Client;

/// Time between two urgent requests.
const EVERY: Duration = Duration::from_millis(2);
/// An urgent request that is not answered by then counts as this long.
const GIVEN_UP: Duration = Duration::from_secs(10);

pub(super) struct Beside {
    pub(super) client: Client,
    pub(super) streams: usize,
    /// Milliseconds for bulk to find its speed.
    pub(super) settle: u64,
    /// Milliseconds with urgent requests.
    pub(super) millis: u64,
    /// Milliseconds of bulk alone before and after, or 0.
    pub(super) alone: u64,
}

impl Beside {
    pub(super) async fn measure(&self, figures: &mut Figures) -> Result<()> {
        let mut bulk = JoinSet::new();
        for _ in 0..self.streams {
            let client = self.client.clone();
            // More than can be sent in the time.
            bulk.spawn(async move { client.bulk(1 << 50).await });
        }
        tokio::time::sleep(millis(self.settle)).await;
        let before = self.alone().await?;
        let latencies = Arc::new(Mutex::new(Latencies::new()));
        let pinging = ping(&self.client, latencies.clone());
        let with = rate(&self.client, millis(self.millis), pinging).await?;
        let after = self.alone().await?;
        anyhow::ensure!(bulk.try_join_next().is_none(), "a bulk stream has ended");
        latencies.lock().describe(figures);
        figures.insert("bulk_gbit_s".into(), with * 8.0 / 1e9);
        if let (Some(before), Some(after)) = (before, after) {
            let alone = (before + after) / 2.0;
            figures.insert("bulk_alone_gbit_s".into(), alone * 8.0 / 1e9);
            figures.insert("bulk_share".into(), with / alone);
        }
        Ok(())
    }

    async fn alone(&self) -> Result<Option<f64>> {
        if self.alone == 0 {
            return Ok(None);
        }
        let alone = rate(&self.client, millis(self.alone), std::future::pending()).await?;
        Ok(Some(alone))
    }
}

/// Bytes a second that arrive while something else is done.
async fn rate(
    client: &Client,
    duration: Duration,
    beside: impl Future<Output = Result<()>>,
) -> Result<f64> {
    let (start, first) = (Instant::now(), received(client).await?);
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        ended = beside => ended?,
    }
    let last = received(client).await?;
    Ok(last.saturating_sub(first) as f64 / start.elapsed().as_secs_f64())
}

/// A server that is starved does not answer either: then its count is not known, and 0.
async fn received(client: &Client) -> Result<u64> {
    match tokio::time::timeout(GIVEN_UP, client.received()).await {
        Ok(count) => count,
        Err(_) => Ok(0),
    }
}

/// Never ends by itself.
async fn ping(client: &Client, latencies: Arc<Mutex<Latencies>>) -> Result<()> {
    let caller = Arc::new(client.caller(true).await?);
    let mut pace = Pace::new(EVERY)?;
    let mut requests = JoinSet::new();
    loop {
        let due = pace.tick().await?;
        let (caller, latencies) = (caller.clone(), latencies.clone());
        requests.spawn(async move {
            let mut open = Open {
                due,
                latencies: Some(latencies),
            };
            let answer = tokio::time::timeout(GIVEN_UP, caller.echo(small())).await;
            open.note();
            answer.unwrap_or_else(|_| Ok(small())).map(drop)
        });
        while let Some(done) = requests.try_join_next() {
            done??;
        }
    }
}

/// A request under way: when it is given up at the end, the time it has waited counts.
struct Open {
    due: Instant,
    latencies: Option<Arc<Mutex<Latencies>>>,
}

impl Open {
    fn note(&mut self) {
        if let Some(latencies) = self.latencies.take() {
            latencies.lock().since(self.due);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // One that has just left says nothing about how long it would take.
        if self.due.elapsed() > Duration::from_millis(500) {
            self.note();
        }
    }
}
