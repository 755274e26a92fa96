//! A command that could not do its work: one sentence and an exit code.
//! Must not be used for a run that failed: that is a verdict.

use std::fmt;

use crate::verdict::Verdict;

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// Gives the exit code.
    pub verdict: Verdict,
    /// A sentence with the place and the remedy; lines after the first are details.
    pub message: String,
}

impl Failure {
    /// The user can mend it: a wrong option, file or name.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Usage,
            message: message.into(),
        }
    }

    /// Something around the command failed: the disk, the network, the cluster.
    pub fn infrastructure(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Infrastructure,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A whole error chain on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text.replace('\n', " ")
}
