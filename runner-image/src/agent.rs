//! One agent: takes one job from the hub, runs it, and stays until its result and logs are safe.
//! Must not lose a result: it is written for the kubelet before it is sent.

use std::fs::OpenOptions;
use std::future::Future;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runner_messages::{JobKey, JobResult, Offer, Outcome, termination};
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use valkyrie::endpoint::{CallError, Handler, Session};

use crate::annex::Annexes;
use crate::config::AgentConfig;
use crate::course::Course;
use crate::desk::{Desk, DeskHandler};
use crate::job::{Job, grace};
use crate::report;
use crate::ship::{Shipped, ship};
use crate::stop::{StopReason, StopRequest};

/// How a job ended and whether the hub knows.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    /// The result as it was sent.
    pub result: JobResult,
    /// The hub has acknowledged the result and every log byte.
    pub delivered: bool,
}

impl JobEnd {
    /// 0 for success, 2 when the agent could not run the job, else 1.
    pub fn exit_code(&self) -> u8 {
        match self.result.outcome() {
            Outcome::Succeeded => 0,
            Outcome::Setup => 2,
            _ => 1,
        }
    }
}

/// Why an agent ended without a job.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The hub cannot be reached or refuses this agent.
    #[error("cannot connect to the hub: {0}")]
    Connect(CallError),
    /// The hub ended the session before it offered anything.
    #[error("the hub ended the session before it offered a job")]
    Dismissed,
    /// Nothing came.
    #[error("the hub offered no job within {0:?}")]
    NoOffer(Duration),
    /// The agent was told to stop.
    #[error("stopped before a job was offered")]
    Stopped,
}

/// Runs one job: dials with the handler that takes the offer, waits for it, runs it, and returns
/// when result and logs are acknowledged or the configured patience is over. `stop` turning
/// `true` ends it early: the job's processes are ended and the result says so. Steps that name an
/// annex run in that one of `annexes`.
///
/// Dropping the future kills every process of the job.
pub async fn serve<D, F>(
    dial: D,
    config: AgentConfig,
    annexes: Annexes,
    mut stop: watch::Receiver<bool>,
) -> Result<JobEnd, AgentError>
where
    D: FnOnce(Arc<dyn Handler>) -> F,
    F: Future<Output = Result<Session, CallError>>,
{
    let (desk, offered) = Desk::new();
    let session = tokio::select! {
        biased;
        () = stopped(&mut stop) => return Err(AgentError::Stopped),
        dialed = dial(Arc::new(DeskHandler(Arc::clone(&desk)))) => {
            dialed.map_err(AgentError::Connect)?
        }
    };
    let way = (&config, annexes);
    let served = serve_session(&session, &desk, offered, way, stop).await;
    session.close("the agent has ended");
    served
}

async fn serve_session(
    session: &Session,
    desk: &Arc<Desk>,
    offered: oneshot::Receiver<(JobKey, Offer)>,
    (config, annexes): (&AgentConfig, Annexes),
    mut stop: watch::Receiver<bool>,
) -> Result<JobEnd, AgentError> {
    let (key, offer) = tokio::select! {
        biased;
        () = stopped(&mut stop) => return Err(AgentError::Stopped),
        offer = offered => offer.map_err(|_| AgentError::Dismissed)?,
        () = session.closed() => return Err(AgentError::Dismissed),
        () = tokio::time::sleep(config.hub_patience) => {
            return Err(AgentError::NoOffer(config.hub_patience));
        }
    };
    let mut logs = JoinSet::new();
    let course = Course::new(&key, &offer);
    let job = Job::new(config, &key, &offer, desk.stop_requests()).with_annexes(annexes);
    let grace = grace(config, &offer);
    let result = run(
        session,
        desk,
        &key,
        (job, course, grace),
        &mut stop,
        &mut logs,
    )
    .await;
    if let Some(path) = &config.termination_log
        && let Err(error) = leave_result(path, &result)
    {
        tracing::warn!(path = %path.display(), %error, "cannot write the termination message");
    }
    let delivered = deliver(session, &result, logs, config, stop).await;
    Ok(JobEnd { result, delivered })
}

/// The kubelet makes the file; where there is none, nobody reads it.
fn leave_result(path: &Path, result: &JobResult) -> io::Result<()> {
    match OpenOptions::new().write(true).truncate(true).open(path) {
        Ok(mut file) => file.write_all(termination::encode(result).as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn run(
    session: &Session,
    desk: &Arc<Desk>,
    key: &JobKey,
    (job, course, grace): (Job<'_>, Course, Duration),
    stop: &mut watch::Receiver<bool>,
    logs: &mut JoinSet<Shipped>,
) -> JobResult {
    let reports = report::progress(
        session.clone(),
        key.clone(),
        course.watch(),
        Arc::clone(desk),
        grace,
    );
    let job = job.run(course, |step, log| {
        logs.spawn(ship(session.clone(), key.clone(), step, log));
    });
    // The job is not spawned: dropping this future drops the job, and with it its processes.
    let side = async {
        let stopping = async {
            stopped(stop).await;
            desk.stop(StopRequest {
                reason: StopReason::AgentStopped,
                grace,
            });
        };
        tokio::join!(reports, stopping);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        result = job => result,
        () = side => unreachable!("it never ends"),
    }
}

/// Whether everything was acknowledged within the agent's patience. Logs go first: a job whose
/// result is known is over for the hub, and it takes no more of its log then.
async fn deliver(
    session: &Session,
    result: &JobResult,
    mut logs: JoinSet<Shipped>,
    config: &AgentConfig,
    mut stop: watch::Receiver<bool>,
) -> bool {
    let mut stop_first = stop.clone();
    let everything = async {
        let shipped = all_durable(&mut logs);
        tokio::pin!(shipped);
        let durable = tokio::select! {
            biased;
            durable = &mut shipped => Some(durable),
            () = tokio::time::sleep(config.logs_first.min(config.hub_patience / 2)) => None,
            () = stopped_since(&mut stop_first, config.stop_patience / 2) => None,
        };
        let rest = async {
            match durable {
                Some(durable) => durable,
                None => shipped.await,
            }
        };
        let (taken, durable) = tokio::join!(report::result(session, result), rest);
        taken && durable
    };
    tokio::select! {
        biased;
        delivered = everything => return delivered,
        () = stopped_since(&mut stop, config.stop_patience) => {}
        () = session.closed() => {}
        () = tokio::time::sleep(config.hub_patience) => {}
    }
    tracing::error!("the hub has not acknowledged the job's result or logs");
    false
}

async fn all_durable(logs: &mut JoinSet<Shipped>) -> bool {
    let mut durable = true;
    while let Some(log) = logs.join_next().await {
        durable &= matches!(log, Ok(Shipped::Durable));
    }
    durable
}

async fn stopped_since(stop: &mut watch::Receiver<bool>, time: Duration) {
    stopped(stop).await;
    tokio::time::sleep(time).await;
}

/// Never returns when the sender is gone: nobody can ask for a stop any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
