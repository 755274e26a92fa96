//! What a back end gives for a case, and the comparison with the table.
//! Must not run anything.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use crds::{JobStatus, PipelineRun};

use crate::cases::Case;

/// How a run came out.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code of the command that waited for the run.
    pub exit: i32,
    /// The run at its end.
    pub run: PipelineRun,
    /// The logs by job.
    pub logs: BTreeMap<String, Vec<u8>>,
}

/// Compares an outcome with its case; the error shows both.
pub fn verify(case: &Case, outcome: &Outcome) -> Result<()> {
    let jobs = outcome
        .run
        .status
        .as_ref()
        .map(|status| &status.jobs[..])
        .unwrap_or_default();
    let states: Vec<_> = jobs
        .iter()
        .map(|job| (job.name.as_str(), job.state))
        .collect();
    ensure!(
        states == case.jobs,
        "{}: jobs ended as {states:?}, not as {:?}\n{:#?}",
        case.name,
        case.jobs,
        outcome.run.status
    );
    ensure!(
        outcome.exit == case.exit,
        "{}: exit code {}, not {}\n{:#?}",
        case.name,
        outcome.exit,
        case.exit,
        outcome.run.status
    );
    for (job, expected) in case.logs {
        let found = outcome
            .logs
            .get(*job)
            .map(Vec::as_slice)
            .unwrap_or_default();
        ensure!(
            found == *expected,
            "{}: the log of {job} is {:?}, not {:?}",
            case.name,
            String::from_utf8_lossy(found),
            String::from_utf8_lossy(expected)
        );
    }
    for (job, part) in case.messages {
        let status = jobs.iter().find(|status| status.name == *job);
        let message = status
            .and_then(|status| status.message.as_deref())
            .unwrap_or_default();
        ensure!(
            message.contains(part),
            "{}: the message of {job} is {message:?} and does not say {part:?}",
            case.name
        );
    }
    if case.name == "odd-output" {
        verify_odd_output(jobs, &outcome.logs)?;
    }
    Ok(())
}

/// 64 MiB without a newline, bytes that are no text, and a signal: all exact.
fn verify_odd_output(jobs: &[JobStatus], logs: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let log = logs.get("odd").map(Vec::as_slice).unwrap_or_default();
    let (bytes, big) = log.split_at(log.len().min(6));
    ensure!(bytes == b"a\xff\xfeb\0c", "the odd bytes came as {bytes:?}");
    ensure!(
        big.len() == 64 << 20,
        "the big step's log has {} bytes",
        big.len()
    );
    ensure!(
        big.iter().all(|byte| *byte == b'x'),
        "the big step's log has foreign bytes"
    );
    let killed = jobs
        .iter()
        .flat_map(|job| &job.steps)
        .find(|step| step.name == "killed");
    let signal = killed.and_then(|step| step.signal);
    ensure!(signal == Some(9), "the killed step has signal {signal:?}");
    Ok(())
}
