//! Watches one run of the cluster and tells a view what happens to it.
//! Must not print.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, pin_mut};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::{mpsc, watch};

use super::connect::{Cluster, status};
use crate::failure::{Failure, chain};
use crate::verdict::Verdict;
use crate::view::Update;

/// Sends every state of a run, until it has ended or the receiver is gone. A broken connection is
/// taken up again for as long as it lasts, and told once. `latest` holds the newest state for those
/// who only need that.
pub(super) async fn watch_run(
    cluster: &Cluster,
    name: &str,
    updates: mpsc::Sender<Update>,
    latest: &watch::Sender<Option<Arc<crds::PipelineRun>>>,
) -> Result<(), Failure> {
    let stream = watcher::watch_object(cluster.runs(), name).default_backoff();
    pin_mut!(stream);
    let mut broken = false;
    let mut seen = false;
    while let Some(item) = stream.next().await {
        match item {
            Ok(Some(run)) => {
                (broken, seen) = (false, true);
                let run = Arc::new(run);
                latest.send_replace(Some(run.clone()));
                let ended = Verdict::of(&status(&run)).is_some();
                if updates.send(Update::Run(run)).await.is_err() || ended {
                    return Ok(());
                }
            }
            Ok(None) => {
                let what = if seen {
                    "was deleted"
                } else {
                    "does not exist"
                };
                return Err(Failure::usage(format!(
                    "run `{name}` {what} in namespace `{}`: `rustci get` lists what there is",
                    cluster.namespace
                )));
            }
            Err(error) if !broken => {
                broken = true;
                let text = format!(
                    "no connection to the cluster, trying again: {}",
                    chain(&error)
                );
                if updates.send(Update::Notice(text)).await.is_err() {
                    return Ok(());
                }
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// Waits for the end of a run without showing it.
pub(super) async fn wait(cluster: &Cluster, name: &str) -> Result<Verdict, Failure> {
    let stream = watcher::watch_object(cluster.runs(), name).default_backoff();
    let ended = stream.filter_map(async |item| match item {
        Ok(Some(run)) => Verdict::of(&status(&run)).map(Ok),
        Ok(None) => Some(Err(Failure::usage(format!("run `{name}` was deleted")))),
        Err(_) => None,
    });
    pin_mut!(ended);
    let verdict = ended.try_next().await?;
    verdict.ok_or_else(|| Failure::infrastructure("the watch of the run ended; run it again"))
}
