//! Keeps the last lines of every step's log for the summary.
//! Must not grow with the log.

use super::StepKey;
use crate::output::{Tails, lines};

/// Lines kept for each step.
const LINES: usize = 10;
/// Bytes kept of each line.
const LINE_BYTES: usize = 400;

/// The last lines of each step.
#[derive(Debug, Default)]
pub(super) struct TailKeeper {
    tails: Tails,
}

impl TailKeeper {
    /// Adds a line of a step's log.
    pub(super) fn add(&mut self, key: &StepKey, line: &[u8]) {
        let tail = self
            .tails
            .entry((key.job.clone(), key.step.clone()))
            .or_default();
        if tail.len() == LINES {
            tail.remove(0);
        }
        tail.push(lines::safe(&line[..line.len().min(LINE_BYTES)], false));
    }

    /// The lines by job and step.
    pub(super) fn tails(&mut self) -> &mut Tails {
        &mut self.tails
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_long_ones_are_cut() {
        let key = StepKey {
            job: "fell".to_owned(),
            attempt: 1,
            index: 0,
            step: "saw".to_owned(),
        };
        let mut keeper = TailKeeper::default();
        for number in 0..25 {
            keeper.add(&key, format!("{number} {}", "x".repeat(1000)).as_bytes());
        }
        let tail = &keeper.tails()[&("fell".to_owned(), "saw".to_owned())];
        assert_eq!(tail.len(), LINES);
        assert!(
            tail[0].starts_with("15 ") && tail[0].len() == LINE_BYTES,
            "{}",
            tail[0]
        );
    }
}
