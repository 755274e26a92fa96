//! Durations as users write them: `90s`, `1h30m`, `14d`.
//! Must not accept what reads as two things: units fall from large to small, each at most once.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DurationError {
    /// Placeholder until the parser is written.
    #[error("the duration is empty; write for example `20m` or `1h30m`")]
    Empty,
}

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let _ = text;
    todo!()
}

/// Writes a duration as [`parse`] reads it, in whole seconds.
pub fn format(duration: Duration) -> String {
    let _ = duration;
    todo!()
}
