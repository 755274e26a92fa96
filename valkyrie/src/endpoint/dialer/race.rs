//! The race between the ways to a server: the first goes at once, each next one after a head start.
//! Must not shake hands: a server must hear one HELLO of a session at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::target::{Connector, Reached, Target};
use crate::endpoint::tenure::Tenure;
use crate::endpoint::{CallError, Code};
use crate::identity::SpiffeId;
use crate::transport::Connection;

/// How a race went.
pub(super) struct Won {
    /// Index among the targets given.
    pub(super) index: usize,
    pub(super) connection: Connection,
    pub(super) server: SpiffeId,
    pub(super) tenure: Tenure,
}

/// Connects by the first of the targets that comes up. The next one in `order` starts after the
/// head start, or at once when the one before has failed. Losers are given up.
pub(super) async fn race(
    connector: &Arc<Connector>,
    targets: &[Target],
    order: &[usize],
    head_start: Duration,
    expected: Option<&SpiffeId>,
) -> Result<Won, CallError> {
    let mut waiting = order.iter();
    let mut running = JoinSet::new();
    let mut failure: Option<CallError> = None;
    loop {
        if let Some(index) = waiting.next() {
            let connector = connector.clone();
            let (index, target, expected) = (*index, targets[*index].clone(), expected.cloned());
            running.spawn(async move {
                let connected = connector.connect(&target, expected.as_ref()).await;
                (index, connected)
            });
        }
        let more = waiting.len() > 0;
        let finished = tokio::select! {
            finished = running.join_next() => finished,
            () = tokio::time::sleep(head_start), if more => continue,
        };
        match finished {
            Some(Ok((index, Ok(reached)))) => {
                let Reached {
                    connection,
                    server,
                    tenure,
                } = reached;
                return Ok(Won {
                    index,
                    connection,
                    server,
                    tenure,
                });
            }
            Some(Ok((index, Err(error)))) => {
                tracing::debug!(target = ?targets[index], %error, "this way is not open");
                // A server that was reached and refuses says more than one that was not.
                if failure.as_ref().is_none_or(|earlier| earlier.retryable) {
                    failure = Some(error);
                }
            }
            Some(Err(_)) => {}
            None if more => {}
            None => return Err(failure.unwrap_or_else(nowhere)),
        }
    }
}

fn nowhere() -> CallError {
    CallError::new(Code::InvalidArgument, "a dialer needs a target")
}
