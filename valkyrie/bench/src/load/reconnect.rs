//! How soon answers come again after the network was cut.
//! Must not know when it was cut: the driver does.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::{millis, small};
use crate::figures::Figures;
use crate::peer::Client;

/// Requests one after the other; gives the end of the longest pause between two answers.
pub(super) async fn measure(client: &Client, duration: u64, figures: &mut Figures) -> Result<()> {
    let caller = client.caller(false).await?;
    let end = Instant::now() + millis(duration);
    let mut last = Instant::now();
    let (mut longest, mut until) = (millis(0), SystemTime::now());
    while Instant::now() < end {
        caller.echo(small()).await?;
        let now = Instant::now();
        if now - last > longest {
            (longest, until) = (now - last, SystemTime::now());
        }
        last = now;
    }
    let until = until.duration_since(UNIX_EPOCH)?.as_secs_f64();
    figures.insert("pause_ms".into(), longest.as_secs_f64() * 1000.0);
    figures.insert("again_at_s".into(), until);
    Ok(())
}
