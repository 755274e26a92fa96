//! The controller of runs: observe, plan, apply, report.
//! Must not decide anything: the planner does.

mod apply;
pub mod memory;
mod observe;
pub mod phase;
mod report;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crds::{LogAccess, PipelineRun};
use hub::Hub;
use jiff::Timestamp;
use kube::Client;
use kube::runtime::controller::Action;
use parking_lot::{Mutex, RwLock};
use planner::run::Settings;
use thiserror::Error;
use valkyrie::identity::TrustDomain;

use self::memory::Memory;
pub use self::observe::seen;
use self::report::Reported;
use crate::caches::Caches;
use crate::events::Events;
use crate::log_token::LogKey;
use crate::metrics::Metrics;
use crate::pod::AgentSettings;

/// Field manager of the statuses of runs.
pub const FIELD_MANAGER: &str = "rustci-operator-pipelinerun";

/// Wait after a write that somebody else's write has refused.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);

/// What the controller works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Local copies.
    pub caches: Arc<Caches>,
    /// Own writes, ahead of the copies.
    pub memory: Arc<Memory>,
    /// The agents.
    pub hub: Arc<Hub>,
    /// What agents are started with.
    pub agent: RwLock<Arc<AgentSettings>>,
    /// Trust domain of the agents.
    pub trust_domain: TrustDomain,
    /// Limits and defaults.
    pub settings: Settings,
    /// How logs are read.
    pub logs: LogRoute,
    /// Start of this leadership.
    pub observing_since: Timestamp,
    /// Writes events.
    pub events: Events,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Held while places of pools are given out.
    pub pools: Mutex<()>,
}

/// How logs are read.
pub struct LogRoute {
    /// The Service in the cluster, as `NAMESPACE/NAME:PORT`.
    pub service: String,
    /// Where this instance itself is asked, when it runs outside the cluster.
    pub address: Option<SocketAddr>,
    /// Key of the tokens.
    pub key: LogKey,
}

/// Why a reconcile has to be done again.
#[derive(Debug, Error)]
pub enum RunError {
    /// A pod could not be looked up.
    #[error("pod {pod} cannot be read")]
    ReadPod {
        /// Its name.
        pod: String,
        /// Why.
        source: kube::Error,
    },
    /// A run could not be looked up.
    #[error("run {run} cannot be read")]
    ReadRun {
        /// Its name.
        run: String,
        /// Why.
        source: kube::Error,
    },
    /// A pod could not be created, and it is not the API server that refused it.
    #[error("pod {pod} cannot be created")]
    CreatePod {
        /// Its name.
        pod: String,
        /// Why.
        source: kube::Error,
    },
    /// A pod could not be deleted.
    #[error("pod {pod} cannot be deleted")]
    DeletePod {
        /// Its name.
        pod: String,
        /// Why.
        source: kube::Error,
    },
    /// The status could not be written.
    #[error("the status of run {run} cannot be written")]
    WriteStatus {
        /// The run's name.
        run: String,
        /// Why.
        source: kube::Error,
    },
    /// The status was written by somebody else meanwhile.
    #[error("the status of run {run} was written by somebody else")]
    Conflict {
        /// The run's name.
        run: String,
    },
}

/// Brings one run a step further.
pub async fn reconcile(
    run: &Arc<PipelineRun>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, RunError> {
    let Some(facts) = observe::observe(run, context).await? else {
        return Ok(Action::await_change());
    };
    let plan = observe::plan(&facts, context, now);
    let (ahead, behind): (Vec<_>, Vec<_>) =
        plan.steps.iter().partition(|action| !action.after_report());
    let applied = apply::apply(&facts, &ahead, context, now).await;
    let reported = report::report(&facts, &plan, context).await;
    let reported = match reported {
        Err(RunError::Conflict { .. }) => return Ok(Action::requeue(jittered(AFTER_CONFLICT))),
        other => other?,
    };
    // After a failure its places stay held until it is planned again: their pods may be there.
    context.memory.planned_is_over(&facts.uid);
    apply::apply(&facts, &behind, context, now).await?;
    if let Reported::Written = reported {
        context.events.publish(&facts.reference, &plan.events).await;
    }
    applied?;
    let rechecks = [plan.recheck, facts.recheck(), reported.recheck()];
    Ok(match rechecks.into_iter().flatten().min() {
        Some(recheck) => Action::requeue(jittered(recheck)),
        None => Action::await_change(),
    })
}

impl Context {
    fn log_access(&self, namespace: &str, run_uid: &str) -> LogAccess {
        let LogRoute {
            service,
            address,
            key,
        } = &self.logs;
        LogAccess {
            service: service.clone(),
            address: address.map(|address| address.to_string()),
            token: key.token(namespace, run_uid),
        }
    }
}

/// So that a schedule's time is kept, however far away it is.
const MOST_JITTER: Duration = Duration::from_secs(1);

/// A little later than asked for, so that many runs do not come back together.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let most = (wait / 10).min(MOST_JITTER);
    wait + most.mul_f64(rand::random::<f64>()) + Duration::from_millis(1)
}
