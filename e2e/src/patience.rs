//! Waits for what no watch tells.
//! Must not be used where an object can be watched.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

const PAUSE: Duration = Duration::from_millis(200);

/// Asks again and again until it holds; `what` is for the error.
pub async fn until<F: Future<Output = Result<bool>>>(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> F,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !holds().await? {
        if Instant::now() > deadline {
            bail!("{what}: not within {limit:?}");
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
