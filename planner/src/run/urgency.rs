//! When a changed status must be written: jobs' states at once, progress of steps later.
//! Must not keep time: the caller knows when it wrote last.

use std::time::Duration;

use crds::PipelineRunStatus;

/// How soon a status must be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Write {
    /// Nothing changed.
    None,
    /// Only progress changed: write when this time has passed since the last write, or together
    /// with the next change that must be written now.
    Later(Duration),
    /// Write before anything else.
    Now,
}

/// How soon `new` must be written, when `old` is what the API server has.
pub fn status_urgency(old: Option<&PipelineRunStatus>, new: &PipelineRunStatus) -> Write {
    let _ = (old, new);
    todo!()
}
