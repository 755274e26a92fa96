//! Plans one Runner (pool): who holds a place, who waits, how many are free.
//! Must not create places: that is the run's plan.

use crds::{PipelineRun, Runner, RunnerStatus};
use jiff::Timestamp;

/// What a decision about one pool depends on.
#[derive(Clone, Copy, Debug)]
pub struct ObservedPool<'a> {
    /// The Runner.
    pub runner: &'a Runner,
    /// Every run in its namespace that is not finished.
    pub runs: &'a [&'a PipelineRun],
}

/// The whole new status of a pool.
pub fn plan(observed: &ObservedPool<'_>, now: Timestamp) -> RunnerStatus {
    let _ = (observed, now);
    todo!()
}

/// Free places of a pool for [`crate::run::PoolFact::free`]; none without a limit.
pub fn free(runner: &Runner, runs: &[&PipelineRun]) -> Option<u32> {
    let _ = (runner, runs);
    todo!()
}
