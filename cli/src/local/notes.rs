//! What a pipeline asks for that only a cluster has.
//! Must not refuse anything: the run goes on without it.

use crds::PipelineSpec;

const CONCURRENCY: &str = "concurrency groups hold only on a cluster; this run does not wait";
const RUNNER: &str = "runners are only on a cluster; all jobs run on this machine";

/// A note for each field of the file that has no effect on one machine.
pub(super) fn of(spec: &PipelineSpec) -> Vec<&'static str> {
    let mut jobs = spec.jobs.iter().chain(&spec.finally_jobs);
    let notes = [
        (spec.concurrency.is_some(), CONCURRENCY),
        (jobs.any(|job| job.runner.is_some()), RUNNER),
    ];
    let notes = notes.into_iter();
    notes
        .filter_map(|(has, note)| has.then_some(note))
        .collect()
}
