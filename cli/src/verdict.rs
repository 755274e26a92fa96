//! The end of a command in one word, and the exit code for it.
//! Must not judge runs itself: the planner does.

use std::process::ExitCode;

use crds::PipelineRunStatus;
use planner::run;

/// How a command ended; the numbers are the exit codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Verdict {
    /// Everything went well.
    Succeeded = 0,
    /// The pipeline failed.
    Failed = 1,
    /// Wrong usage, or an invalid pipeline.
    Usage = 2,
    /// The run was cancelled.
    Cancelled = 3,
    /// The run, or a job or step of it, ran out of time.
    TimedOut = 4,
    /// Something around the pipeline failed: the agent, the pod, the cluster.
    Infrastructure = 5,
}

impl Verdict {
    /// The verdict on a run; none before its end.
    pub fn of(status: &PipelineRunStatus) -> Option<Self> {
        Some(match run::verdict(status) {
            run::Verdict::Running => return None,
            run::Verdict::Succeeded => Self::Succeeded,
            run::Verdict::Failed => Self::Failed,
            run::Verdict::Cancelled => Self::Cancelled,
            run::Verdict::TimedOut => Self::TimedOut,
            run::Verdict::Infrastructure => Self::Infrastructure,
        })
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Usage => "invalid",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::Infrastructure => "failed for a reason outside the pipeline",
        }
    }

    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Usage => "Usage",
            Self::Cancelled => "Cancelled",
            Self::TimedOut => "TimedOut",
            Self::Infrastructure => "Infrastructure",
        }
    }

    /// The exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        Self::from(verdict.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_the_exit_code_of_the_documentation() {
        use Verdict::{Cancelled, Failed, Infrastructure, Succeeded, TimedOut, Usage};
        let verdicts = [
            Succeeded,
            Failed,
            Usage,
            Cancelled,
            TimedOut,
            Infrastructure,
        ];
        assert_eq!(verdicts.map(Verdict::code), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_run_without_a_status_goes_on() {
        assert_eq!(Verdict::of(&PipelineRunStatus::default()), None);
    }
}
