//! Newer connections made while the one before is well: by a better way, by a newer certificate, or
//! to the successor of a server that goes away.
//! Must not break what is open on the one before.

use std::sync::Arc;
use std::time::Duration;

use super::{Carried, Choice, Driver, Serving};
use crate::endpoint::line::Line;
use crate::endpoint::session::{Handles, Peer, Shared};
use crate::endpoint::tenure::Tenure;
use crate::endpoint::{CallError, Target};
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
    /// One beside which the one before ends what is open on it.
    fn beside(carried: Carried, before: Option<Arc<Line>>) -> Self {
        Self {
            carried: Some(Box::new(carried)),
            before,
        }
    }

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
    /// of the moment is made beside, and what is open goes on where it is; so it does when the
    /// server goes away and names a successor.
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
            let hinted = async {
                let targets = self.elsewhere(line).await;
                tokio::time::sleep(pause).await;
                targets
            };
            let reason = tokio::select! {
                () = better => Reason::Better,
                () = rotation => Reason::Rotation,
                targets = hinted => Reason::Successor(targets),
            };
            tracing::debug!(?reason, "a newer connection is tried");
            let waits = !matches!(reason, Reason::Better);
            let tried = match reason {
                Reason::Rotation => self.rotate(shared, handles, line, &server).await,
                Reason::Better => self.better(shared, handles, line, index, &server).await,
                Reason::Successor(targets) => self.go_over(shared, handles, targets, &server).await,
            };
            match tried {
                Ok(newer) => return newer,
                Err(error) => tracing::debug!(%error, "no newer connection yet"),
            }
            if waits {
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
        Ok(Newer::beside(carried, before))
    }

    /// Returns when the server goes away and has named a successor that these targets can reach.
    async fn elsewhere(&self, line: &Line) -> Vec<Target> {
        let hint = line.going().await.unwrap_or_default();
        let targets = self.home.iter();
        let targets: Vec<_> = targets
            .filter_map(|target| target.elsewhere(&hint))
            .collect();
        if targets.is_empty() {
            // Nothing to do but to dial again when this connection has ended.
            std::future::pending().await
        }
        targets
    }

    /// Connects to a successor, who must prove the same id. What is open goes on where it is.
    async fn go_over(
        &mut self,
        shared: &Arc<Shared>,
        handles: &Handles,
        targets: Vec<Target>,
        server: &SpiffeId,
    ) -> Result<Newer, CallError> {
        // Kept when this fails or the server ends first: then it is tried again.
        self.away = Some(targets);
        self.aim(0);
        let admitted = self.attempt(Some(server), Choice::Any).await?;
        let Some(session) = handles.session() else {
            return Ok(Newer::instead(None));
        };
        match self.take_up(shared, &session, admitted).await {
            Ok((carried, before)) => Ok(Newer::beside(carried, before)),
            Err(_) => Ok(Newer::instead(None)),
        }
    }
}

/// Why a newer connection is made.
#[derive(Debug)]
enum Reason {
    Better,
    Rotation,
    Successor(Vec<Target>),
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
