//! Serves the log of one step, once or followed to its end.
//! Must not look at a run before its token is checked.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, header};
use serde::Deserialize;
use storage::{LogError, LogKey, follow};

use super::error::ApiError;
use super::{Leading, Shared};

const TOKEN_HEADER: &str = "x-rustci-log-token";

#[derive(Debug, Deserialize)]
pub(super) struct StepPath {
    namespace: String,
    run_uid: String,
    job: String,
    attempt: u32,
    step: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    /// Goes on as the log grows, until it is closed or the job has ended.
    follow: bool,
    /// First byte.
    offset: u64,
}

pub(super) async fn read(
    State(shared): State<Shared>,
    path: Result<Path<StepPath>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let leading = shared.leading.read().clone();
    let leading = leading.ok_or_else(|| ApiError::unavailable("this instance does not lead"))?;
    let Path(path) = path.map_err(|_| ApiError::not_found("there is no such step"))?;
    let Query(wanted) = wanted.map_err(|error| ApiError::bad_request(error.body_text()))?;
    authorize(&leading, &path, &headers)?;
    let key = find(&leading, path)?;
    let status = leading.logs.status(&key).await.map_err(failed)?;
    if wanted.offset > status.end && (status.closed || !wanted.follow) {
        return Err(ApiError::bad_request(format!(
            "the log ends at {}",
            status.end
        )));
    }
    let ended: futures::future::BoxFuture<'static, ()> = match wanted.follow {
        true => Box::pin(job_ended(leading.clone(), key.clone())),
        false => Box::pin(std::future::ready(())),
    };
    let stop = leading.stop.clone().cancelled_owned();
    let pieces = follow(leading.logs.clone(), key, wanted.offset, ended)
        .take_until(stop)
        .map_err(std::io::Error::other);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

fn authorize(leading: &Leading, path: &StepPath, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(token) = headers.get(TOKEN_HEADER) else {
        let text = "the header X-RustCI-Log-Token is missing: take it from the run's status.logs";
        return Err(ApiError::unauthorized(text));
    };
    let token = token.to_str().unwrap_or_default();
    match leading
        .log_key
        .verifies(token, &path.namespace, &path.run_uid)
    {
        true => Ok(()),
        false => Err(ApiError::forbidden("the token is not that of this run")),
    }
}

/// The log's key, if the run has such a job and step.
fn find(leading: &Leading, path: StepPath) -> Result<LogKey, ApiError> {
    let StepPath {
        namespace,
        run_uid,
        job,
        attempt,
        step,
    } = path;
    let missing = |what: &str| ApiError::not_found(format!("there is no such {what}"));
    let run = leading
        .caches
        .run_by_uid(&namespace, &run_uid)
        .ok_or_else(|| missing("run"))?;
    let jobs = run.status.iter().flat_map(|status| &status.jobs);
    let known = jobs
        .into_iter()
        .find(|known| known.name == job)
        .ok_or_else(|| missing("job"))?;
    if attempt == 0 || attempt > known.attempt {
        return Err(missing("attempt"));
    }
    // The steps of a finished run are not kept here; then only the log itself can tell.
    if !known.steps.is_empty() && known.steps.len() <= step as usize {
        return Err(missing("step"));
    }
    Ok(LogKey {
        namespace,
        run_uid,
        job,
        attempt,
        step,
    })
}

/// Done when nothing more can be written to the log.
async fn job_ended(leading: Arc<Leading>, key: LogKey) {
    let mut changes = leading.caches.run_changes.subscribe();
    loop {
        changes.borrow_and_update();
        let Some(run) = leading.caches.run_by_uid(&key.namespace, &key.run_uid) else {
            return;
        };
        let jobs = run.status.iter().flat_map(|status| &status.jobs);
        let goes_on = |known: &crds::JobStatus| {
            known.name == key.job && known.attempt <= key.attempt && !known.state.is_final()
        };
        let is_open = jobs.into_iter().any(goes_on);
        drop(run);
        if !is_open || changes.changed().await.is_err() {
            return;
        }
    }
}

fn failed(error: LogError) -> ApiError {
    match error {
        LogError::Deleted => ApiError::not_found("the run was deleted"),
        LogError::Name(name) => ApiError::not_found(format!("{name:?} cannot name a log")),
        other => ApiError::internal(other.to_string()),
    }
}
