//! Plans one Pipeline: runs for new generations, retention, conditions.
//! Must not plan runs themselves.

use std::time::Duration;

use crds::{Pipeline, PipelineRun, PipelineStatus};
use jiff::Timestamp;

/// What a decision about one Pipeline depends on.
#[derive(Clone, Copy, Debug)]
pub struct ObservedPipeline<'a> {
    /// The Pipeline.
    pub pipeline: &'a Pipeline,
    /// Every run whose `spec.pipelineRef` names it.
    pub runs: &'a [&'a PipelineRun],
}

/// What to do next for a Pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelinePlan {
    /// The run to create, with a derived name and its labels; the caller adds the owner reference.
    pub create_run: Option<PipelineRun>,
    /// Names of the finished runs to delete.
    pub delete_runs: Vec<String>,
    /// The whole new status; to be written after `create_run`.
    pub status: PipelineStatus,
    /// When to look again at the latest, without a change.
    pub recheck: Option<Duration>,
}

/// Decides what happens next with a Pipeline.
pub fn plan(observed: &ObservedPipeline<'_>, now: Timestamp) -> PipelinePlan {
    let _ = (observed, now);
    todo!()
}
