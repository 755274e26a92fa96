//! What a run looks like to the user: the events of a run and the printers that show them.
//! Must not follow a run: `view` calls the printers.

pub mod elapsed;
pub mod json;
pub mod lines;
pub mod log;
pub mod screen;
pub mod summary;
pub mod table;
pub mod text;

use std::collections::BTreeMap;
use std::io;

use crds::{JobStatus, PipelineRun};
use jiff::Timestamp;

use crate::verdict::Verdict;

/// The last lines of each job's steps, by job and step.
pub type Tails = BTreeMap<(String, String), Vec<String>>;

/// Shows the events of one run in the order in which they are given. Every method may fail when
/// the output is closed.
pub trait Printer: Send {
    /// The run is known.
    fn started(&mut self, run: &PipelineRun) -> io::Result<()>;
    /// A job changed its state, or the reason for it. Its log so far was shown before.
    fn job(&mut self, job: &JobStatus) -> io::Result<()>;
    /// A line of a step's log, raw and without its end.
    fn log(&mut self, job: &str, step: &str, line: &[u8]) -> io::Result<()>;
    /// The next bytes of a step's log, for printers that do not want lines.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
    /// True when `log` is to be called, false when `bytes` is.
    fn wants_lines(&self) -> bool {
        true
    }
    /// Something that the user should know of the command itself, such as a lost connection.
    fn notice(&mut self, text: &str) -> io::Result<()>;
    /// The run ended and everything of it was shown.
    fn ended(&mut self, end: &End<'_>) -> io::Result<()>;
    /// Called after a group of events: `run` is the newest state.
    fn settle(&mut self, run: Option<&PipelineRun>, now: Timestamp) -> io::Result<()>;
    /// True when `settle` wants to be called every second to move clocks.
    fn is_live(&self) -> bool {
        false
    }
}

/// The end of a run.
pub struct End<'a> {
    /// The run with its last status.
    pub run: &'a PipelineRun,
    /// The verdict on it.
    pub verdict: Verdict,
    /// Last lines of the steps' logs.
    pub tails: &'a Tails,
}
