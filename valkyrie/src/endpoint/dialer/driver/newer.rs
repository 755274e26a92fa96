//! Newer connections made while the one before is well: by a better way, or by a newer certificate.
//! Must not break what is open on the one before.

use std::sync::Arc;
use std::time::Duration;

use super::{Carried, Choice, Driver, Serving};
use crate::endpoint::CallError;
use crate::endpoint::line::Line;
use crate::endpoint::session::{Handles, Peer, Shared};
use crate::endpoint::tenure::Tenure;
use crate::identity::SpiffeId;
use crate::wire::CloseCode;

/// A newer connection.
pub(super) struct Newer {
    /// What to serve next; none when the session is over.
    pub(super) carried: Option<Box<Carried>>,
    /// The one before it, when that ends what is open on it.
    pub(super) before: Option<Arc<Line>>,
}

impl Newer {
    /// One in whose favour the one before is given up.
    fn instead(carried: Option<Carried>) -> Self {
        Self {
            carried: carried.map(Box::new),
            before: None,
        }
    }
}

impl Driver {
    /// Goes over to a newer connection when there is a reason to; never returns without one.
    ///
    /// A way that is preferred to this one is taken when it is open again and nothing is open on
    /// the line: what is would break. Before a certificate ends, a connection by the certificates
    /// of the moment is made beside, and what is open goes on where it is.
    pub(super) async fn newer(
        &mut self,
        shared: &Arc<Shared>,
        handles: &Handles,
        line: &Arc<Line>,
        index: usize,
        tenure: &Tenure,
    ) -> Newer {
        let Peer::Spiffe(server) = shared.peer().clone() else {
            return std::future::pending().await;
        };
        let retry = self.settings.retry_preferred;
        let jitter = rand::random();
        let mut pause = Duration::ZERO;
        loop {
            let better = async {
                if index == 0 {
                    std::future::pending().await
                }
                tokio::time::sleep(retry).await;
                line.quiet().await;
            };
            let rotation = async {
                tenure.rotation(jitter).await;
                tokio::time::sleep(pause).await;
            };
            let rotates = tokio::select! {
                () = better => false,
                () = rotation => true,
            };
            let tried = match rotates {
                true => self.rotate(shared, handles, line, &server).await,
                false => self.better(shared, handles, line, index, &server).await,
            };
            match tried {
                Ok(newer) => return newer,
                Err(error) => tracing::debug!(%error, rotates, "no newer connection yet"),
            }
            if rotates {
                pause = self.backoff.next(rand::random(), None);
            }
        }
    }

    async fn better(
        &mut self,
        shared: &Arc<Shared>,
        handles: &Handles,
        line: &Arc<Line>,
        index: usize,
        server: &SpiffeId,
    ) -> Result<Newer, CallError> {
        let _held = shared.hold(line);
        let admitted = self.attempt(Some(server), Choice::Before(index)).await?;
        let carried = self.replace(shared, handles, admitted).await;
        Ok(Newer::instead(carried))
    }

    async fn rotate(
        &mut self,
        shared: &Arc<Shared>,
        handles: &Handles,
        line: &Arc<Line>,
        server: &SpiffeId,
    ) -> Result<Newer, CallError> {
        let won = self.reach(Some(server), Choice::Any).await?;
        let _held = shared.hold(line);
        let admitted = self.greet(won, true).await?;
        let Some(session) = handles.session() else {
            return Ok(Newer::instead(None));
        };
        let resumed = admitted.welcome.resumed;
        let Ok((carried, before)) = self.take_up(shared, &session, admitted).await else {
            return Ok(Newer::instead(None));
        };
        self.settings.metrics.rotations.add(u64::from(resumed));
        Ok(Newer {
            carried: Some(Box::new(carried)),
            before,
        })
    }
}

/// Lets a connection that was replaced end what is open on it, as long as its session and its
/// certificates last.
pub(super) async fn outlive(
    serving: Serving,
    line: Arc<Line>,
    shared: Arc<Shared>,
    tenure: Tenure,
) {
    tokio::select! {
        _ = serving => {}
        () = line.clone().retire() => {}
        () = shared.down() => line.close(CloseCode::Replaced, "the session is over"),
        over = tenure.over() => line.close(over.code(), over.reason()),
    }
}
