//! The one word about a run that exit codes and summaries are made from.
//! Must not look at anything but the status.

use crds::PipelineRunStatus;

/// How a run stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not finished.
    Running,
    /// Every job succeeded. Exit code 0.
    Succeeded,
    /// A step failed, or the pipeline or its parameters are wrong. Exit code 1.
    Failed,
    /// Somebody cancelled it. Exit code 3.
    Cancelled,
    /// It, or a job, ran out of time. Exit code 4.
    TimedOut,
    /// Only causes outside of the steps. Exit code 5.
    Infrastructure,
}

/// How a run stands.
pub fn verdict(status: &PipelineRunStatus) -> Verdict {
    let _ = status;
    todo!()
}
