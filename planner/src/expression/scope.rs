//! The names that an expression may use, with their types.
//! Must not hold values.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Frame, Type};

/// The names that an expression may use.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    /// Declared parameters.
    pub params: &'a [(&'a str, Type)],
    /// Declared inputs of a step template; none outside of one. In it neither params nor jobs are
    /// known.
    pub inputs: Option<&'a [(&'a str, Type)]>,
    /// The values of what is used: of `params` in a used job, of `inputs` in a used template. None
    /// in a pipeline itself.
    pub frame: Option<Arc<Frame>>,
    /// Every job of the pipeline; none where no job has begun.
    pub jobs: Option<&'a JobTable<'a>>,
    /// Which of `jobs` are known here, by index: naming another one is a mistake with its own
    /// remedy. None for all of them.
    pub known: Option<&'a [bool]>,
    /// Axes of the job's matrix; none outside of such a job.
    pub matrix: Option<&'a [(&'a str, Type)]>,
    /// Steps of the job, in a job's `outputs`; none elsewhere.
    pub steps: Option<Vec<ScopeStep<'a>>>,
    /// True in conditions: `success()` and the like are known.
    pub status: bool,
    /// True in values that an agent puts together: `hashFiles()` is known.
    pub files: bool,
}

/// The jobs that expressions of one pipeline may name.
#[derive(Clone, Debug, Default)]
pub struct JobTable<'a> {
    jobs: Vec<ScopeJob<'a>>,
    index: HashMap<&'a str, usize>,
}

/// One job for expressions.
#[derive(Clone, Debug, Default)]
pub struct ScopeJob<'a> {
    /// Name of the job.
    pub name: &'a str,
    /// Names of its outputs; none when they are not known, as those of a job from elsewhere.
    pub outputs: Option<Vec<&'a str>>,
    /// True for a job with a matrix: its results are a list.
    pub has_matrix: bool,
}

/// One step for expressions.
#[derive(Clone, Debug, Default)]
pub struct ScopeStep<'a> {
    /// Name of the step.
    pub name: &'a str,
    /// Names of its outputs, for one that uses a template; a script has any.
    pub outputs: Option<Vec<&'a str>>,
}

impl<'a> JobTable<'a> {
    /// A table of these jobs. Of two with one name the first counts.
    pub fn new(jobs: Vec<ScopeJob<'a>>) -> Self {
        let mut index = HashMap::with_capacity(jobs.len());
        for (i, job) in jobs.iter().enumerate() {
            index.entry(job.name).or_insert(i);
        }
        Self { jobs, index }
    }
}

impl<'a> Scope<'a> {
    /// A job by its name, and whether it is known here.
    pub(super) fn job(&self, name: &str) -> Option<(&'a ScopeJob<'a>, bool)> {
        let table = self.jobs?;
        let index = *table.index.get(name)?;
        let known = self.known.is_none_or(|known| known[index]);
        Some((&table.jobs[index], known))
    }

    /// The names of all jobs, those that are known first.
    pub(super) fn job_names(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let jobs = self.jobs.map_or(&[][..], |table| &table.jobs);
        let known = self.known;
        let part = move |wanted: bool| {
            let of_part = move |(i, job): (usize, &'a ScopeJob<'a>)| {
                (known.is_none_or(|known| known[i]) == wanted).then_some(job.name)
            };
            jobs.iter().enumerate().filter_map(of_part)
        };
        part(true).chain(part(false))
    }
}
