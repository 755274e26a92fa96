//! Tells the hub how the job goes and how it ended.
//! Must not hold the job up: progress is sent when it can be, and only its latest state.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use runner_messages::{JobKey, JobResult, Progress, StepReport, method};
use tokio::sync::watch;
use valkyrie::endpoint::{CallError, CallOptions, Method, Session};

use crate::backoff::Backoff;
use crate::desk::Desk;
use crate::ship::{is_final, is_superseded};
use crate::stop::{StopReason, StopRequest};

const PROGRESS_DEADLINE: Duration = Duration::from_secs(10);
/// Changes within this time are told together.
const PROGRESS_SPACING: Duration = Duration::from_millis(20);
const RESULT_DEADLINE: Duration = Duration::from_secs(30);

/// Sends the state of the steps whenever it has changed, and again when the hub has forgotten
/// it. Runs until it is dropped, or until the hub takes no reports of this attempt: then the job
/// is asked to stop.
pub(crate) async fn progress(
    session: Session,
    job: JobKey,
    mut steps: watch::Receiver<Vec<StepReport>>,
    desk: Arc<Desk>,
    grace: Duration,
) {
    let mut backoff = Backoff::new();
    loop {
        tokio::select! {
            changed = steps.changed() => if changed.is_err() {
                return;
            },
            () = desk.again.notified() => {}
        }
        loop {
            let progress = Progress {
                job: Some(job.clone()),
                steps: steps.borrow_and_update().clone(),
            };
            let body = progress.encode_to_vec().into();
            let sent = call(&session, method::JOB_PROGRESS, body, PROGRESS_DEADLINE).await;
            let error = match sent {
                Ok(()) => break backoff.reset(),
                Err(error) => error,
            };
            if is_superseded(&error) {
                tracing::warn!(%error, "the hub takes no reports of this job; it is stopped");
                let reason = StopReason::Superseded;
                return desk.stop(StopRequest { reason, grace });
            }
            if is_final(&error) {
                break tracing::warn!(%error, "the hub cannot read this progress");
            }
            tracing::debug!(%error, "progress was not taken; it is sent again");
            tokio::time::sleep(backoff.next(error.retry_after)).await;
        }
        tokio::time::sleep(PROGRESS_SPACING).await;
    }
}

/// Sends the result until the hub has it durably; `false` when the hub refuses it for good.
pub(crate) async fn result(session: &Session, result: &JobResult) -> bool {
    let body = Bytes::from(result.encode_to_vec());
    let mut backoff = Backoff::new();
    loop {
        match call(session, method::JOB_RESULT, body.clone(), RESULT_DEADLINE).await {
            Ok(()) => return true,
            Err(error) if is_final(&error) => {
                tracing::warn!(%error, "the hub refuses the result of this job");
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, "the result was not taken; it is sent again");
                tokio::time::sleep(backoff.next(error.retry_after)).await;
            }
        }
    }
}

async fn call(
    session: &Session,
    method: u32,
    body: Bytes,
    deadline: Duration,
) -> Result<(), CallError> {
    let options = CallOptions::new(deadline).idempotent();
    session.call(Method(method), body, options).await.map(drop)
}
