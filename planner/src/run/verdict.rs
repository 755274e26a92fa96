//! The one word about a run that exit codes and summaries are made from.
//! Must not look at anything but the status.

use crds::PipelineRunStatus;
use crds::condition::SUCCEEDED;

use super::conditions::find;
use super::reason::RunReason;

/// How a run stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not finished.
    Running,
    /// Every job succeeded. Exit code 0.
    Succeeded,
    /// A step failed, or the pipeline or its parameters are wrong. Exit code 1.
    Failed,
    /// Somebody cancelled it, or a newer run took its place. Exit code 3.
    Cancelled,
    /// It, or a job, ran out of time. Exit code 4.
    TimedOut,
    /// Only causes outside of the steps. Exit code 5.
    Infrastructure,
}

/// How a run stands.
pub fn verdict(status: &PipelineRunStatus) -> Verdict {
    let Some(condition) = find(status, SUCCEEDED) else {
        return Verdict::Running;
    };
    match (condition.status.as_str(), condition.reason.as_str()) {
        ("True", _) => Verdict::Succeeded,
        ("False", reason) if reason == RunReason::Cancelled.as_str() => Verdict::Cancelled,
        ("False", reason) if reason == RunReason::Superseded.as_str() => Verdict::Cancelled,
        ("False", reason) if reason == RunReason::TimedOut.as_str() => Verdict::TimedOut,
        ("False", reason) if reason == RunReason::InfrastructureFailure.as_str() => {
            Verdict::Infrastructure
        }
        ("False", _) => Verdict::Failed,
        _ => Verdict::Running,
    }
}
