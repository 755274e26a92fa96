//! Which entries of the status belong to which job of the pipeline: one, or those of its matrix.
//! Must not decide anything from their states.

use std::collections::HashMap;
use std::ops::Range;

use crds::{JobState, JobStatus};
use jiff::Timestamp;

use super::condition::has_failed;
use super::turn::Turn;
use crate::matrix::Combination;
use crate::names;
use crate::params::plain;
use crate::validate::{ValidJob, ValidPipeline};

/// The entries, in the pipeline's order: those of one job stand together.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// For each entry the index of its job.
    jobs: Vec<usize>,
    /// For each job its entries.
    entries: Vec<Range<usize>>,
    /// For each job when the first of its entries failed, if one has.
    failed: Vec<Option<Timestamp>>,
}

impl Layout {
    /// Index of the job of an entry.
    pub(super) fn job(&self, entry: usize) -> usize {
        self.jobs[entry]
    }

    /// The entries of a job.
    pub(super) fn entries(&self, job: usize) -> Range<usize> {
        self.entries[job].clone()
    }

    /// When the first of a job's entries failed, if one has.
    pub(super) fn failed(&self, job: usize) -> Option<Timestamp> {
        self.failed[job]
    }

    fn add(&mut self, entries: &[JobStatus]) {
        let start = self.jobs.len();
        self.jobs.resize(start + entries.len(), self.entries.len());
        self.entries.push(start..start + entries.len());
        let failed = entries.iter().filter(|entry| has_failed(entry));
        let first = failed.filter_map(|entry| Some(entry.end_time.as_ref()?.0));
        self.failed.push(first.min());
    }

    /// An entry has failed. A run that can't be run has no layout.
    pub(super) fn note_failure(&mut self, entry: usize, now: Timestamp) {
        if let Some(job) = self.jobs.get(entry) {
            self.failed[*job].get_or_insert(now);
        }
    }
}

impl Turn<'_> {
    /// The job of an entry.
    pub(super) fn job_of<'p>(&self, pipeline: &'p ValidPipeline, entry: usize) -> &'p ValidJob {
        &pipeline.jobs[self.layout.job(entry)]
    }

    /// The entries of a job.
    pub(super) fn group(&self, job: usize) -> &[JobStatus] {
        &self.status.jobs[self.layout.entries(job)]
    }

    /// Gives every job its entries: the known ones, else new ones.
    pub(super) fn align_jobs(&mut self, pipeline: &ValidPipeline) {
        let mut known: HashMap<String, Vec<JobStatus>> = HashMap::new();
        for entry in std::mem::take(&mut self.status.jobs) {
            let job = entry.job.as_ref().unwrap_or(&entry.name).clone();
            known.entry(job).or_default().push(entry);
        }
        self.layout = Layout::default();
        for job in &pipeline.jobs {
            let entries = match known.remove(&job.spec.name) {
                Some(entries) => entries,
                None => new_entries(job),
            };
            self.layout.add(&entries);
            self.status.jobs.extend(entries);
        }
    }

    /// Replaces the one entry of a job by those of its matrix.
    pub(super) fn expand(
        &mut self,
        pipeline: &ValidPipeline,
        job: usize,
        combinations: &[Combination],
    ) {
        let place = self.layout.entries(job);
        let new = of_matrix(&pipeline.jobs[job], combinations);
        self.status.jobs.splice(place, new);
        self.align_jobs(pipeline);
    }
}

fn new_entries(job: &ValidJob) -> Vec<JobStatus> {
    let fixed = job.matrix.as_ref().and_then(|matrix| matrix.fixed.as_ref());
    match fixed {
        Some(combinations) => of_matrix(job, combinations),
        None => vec![new_entry(job, job.spec.name.clone())],
    }
}

fn of_matrix(job: &ValidJob, combinations: &[Combination]) -> Vec<JobStatus> {
    let axes = job
        .spec
        .matrix
        .as_ref()
        .map_or(0, |matrix| matrix.axes.len());
    let entry = |values: &Combination| {
        let shown: Vec<String> = values[..axes].iter().map(|v| plain(&v.value)).collect();
        let name = names::matrix_job(&job.spec.name, shown.iter().map(String::as_str));
        JobStatus {
            job: Some(job.spec.name.clone()),
            matrix: values.clone(),
            ..new_entry(job, name)
        }
    };
    combinations.iter().map(entry).collect()
}

/// The entry of a job of a matrix that runs again, in another run.
pub(super) fn reset_entry(entry: &JobStatus) -> JobStatus {
    JobStatus {
        name: entry.name.clone(),
        job: entry.job.clone(),
        matrix: entry.matrix.clone(),
        runner: entry.runner.clone(),
        ..JobStatus::default()
    }
}

fn new_entry(job: &ValidJob, name: String) -> JobStatus {
    JobStatus {
        name,
        is_finally: job.is_finally,
        state: JobState::Pending,
        runner: job.spec.runner.clone(),
        ..JobStatus::default()
    }
}
