//! The state of one call of `plan`: what is known, and what has been decided so far.
//! Must not decide anything itself.

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crds::{EnvVar, JobStatus, NamedValue, ParamValue, PipelineRunStatus, ResolvedPipeline};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition;
use super::layout::Layout;
use super::observed::{AgentFact, JobKey, Observed, PlaceFact, PlacePhase, PoolFact, Settings};
use super::plan::{Action, Event, EventType, OfferSpec, Plan};
use crate::expression::{
    Base, Evaluator, JobValues, MatrixValues, RunValues, Source, Status, StepValues, Uses, Values,
};
use crate::validate::{ValidJob, ValidPipeline};

/// One turn of planning.
pub(super) struct Turn<'a> {
    pub(super) observed: &'a Observed<'a>,
    pub(super) now: Timestamp,
    /// The new status, as far as decided.
    pub(super) status: PipelineRunStatus,
    pub(super) steps: Vec<Action>,
    pub(super) events: Vec<Event>,
    /// Places that pools still have.
    pub(super) free: BTreeMap<&'a str, u32>,
    /// Offers that are made for the attempts of this turn, by name of the job.
    pub(super) offers: BTreeMap<String, OfferSpec>,
    /// Bytes of the outputs in the status, once they were added up.
    pub(super) outputs_size: Cell<Option<usize>>,
    /// Which entries of the status belong to which job.
    pub(super) layout: Layout,
    /// What all expressions of the run read; made when the first is evaluated.
    base: OnceCell<Base>,
    places: HashMap<(&'a str, u32), &'a PlaceFact>,
    agents: HashMap<(&'a str, u32, u64), &'a AgentFact>,
    wake: Option<Timestamp>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let free = observed
            .pools
            .iter()
            .filter_map(|pool| Some((pool.name.as_str(), pool.free?)));
        let places = observed.places.iter();
        let places = places.map(|place| ((place.job.as_str(), place.attempt), place));
        let agents = observed.agents.iter();
        let agents = agents.map(|a| ((a.job.as_str(), a.attempt, a.fence), a));
        Self {
            observed,
            now,
            status: observed.run.status.clone().unwrap_or_default(),
            steps: Vec::new(),
            events: Vec::new(),
            free: free.collect(),
            offers: BTreeMap::new(),
            outputs_size: Cell::new(None),
            layout: Layout::default(),
            base: OnceCell::new(),
            places: places.collect(),
            agents: agents.collect(),
            wake: None,
        }
    }

    pub(super) fn finish(self) -> Plan {
        let recheck = self.wake.map(|at| {
            let left = at.duration_since(self.now);
            // Not zero: a caller that looks again at once must find that time has passed.
            Duration::try_from(left)
                .unwrap_or_default()
                .max(Duration::from_millis(10))
        });
        Plan {
            steps: self.steps,
            status: self.status,
            recheck,
            events: self.events,
        }
    }

    pub(super) fn settings(&self) -> &'a Settings {
        self.observed.settings
    }

    /// True once `since` is `after` ago; else the plan looks again at that time.
    pub(super) fn is_over(&mut self, since: Timestamp, after: Duration) -> bool {
        let end = since + after;
        if self.now >= end {
            return true;
        }
        self.wake = Some(self.wake.map_or(end, |wake| wake.min(end)));
        false
    }

    /// The later of a time and the time since when agents are listened to.
    pub(super) fn heard_since(&self, since: Timestamp) -> Timestamp {
        since.max(self.observed.observing_since)
    }

    pub(super) fn time(&self) -> Option<Time> {
        Some(Time(self.now))
    }

    pub(super) fn event(&mut self, event_type: EventType, reason: &str, message: String) {
        let at = self.now;
        self.events.push(Event {
            event_type,
            reason: reason.to_owned(),
            message,
            at,
        });
    }

    pub(super) fn run_name(&self) -> &'a str {
        self.observed
            .run
            .metadata
            .name
            .as_deref()
            .unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> &'a str {
        self.observed
            .run
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default()
    }

    pub(super) fn run_uid(&self) -> &'a str {
        self.observed
            .run
            .metadata
            .uid
            .as_deref()
            .unwrap_or_default()
    }

    pub(super) fn key(&self, job: &JobStatus) -> JobKey {
        JobKey {
            namespace: self.namespace().to_owned(),
            run: self.run_name().to_owned(),
            run_uid: self.run_uid().to_owned(),
            job: job.name.clone(),
            attempt: job.attempt,
            fence: job.fence,
        }
    }

    /// The place of a job's current attempt.
    pub(super) fn place(&self, job: usize) -> Option<&'a PlaceFact> {
        let job = &self.status.jobs[job];
        self.places.get(&(job.name.as_str(), job.attempt)).copied()
    }

    /// What the hub knows of a job's current attempt.
    pub(super) fn agent(&self, job: usize) -> Option<&'a AgentFact> {
        let job = &self.status.jobs[job];
        let key = (job.name.as_str(), job.attempt, job.fence);
        self.agents.get(&key).copied()
    }

    pub(super) fn pool(&self, name: &str) -> Option<&'a PoolFact> {
        self.observed.pools.iter().find(|pool| pool.name == name)
    }

    /// Takes the snapshot of a pipeline: from now on expressions read its params.
    pub(super) fn take_snapshot(&mut self, snapshot: ResolvedPipeline) {
        self.status.pipeline = Some(snapshot);
        self.base = OnceCell::new();
    }

    fn base(&self) -> &Base {
        self.base.get_or_init(|| {
            let snapshot = self.status.pipeline.as_ref();
            Base::new(&RunValues {
                params: snapshot.map_or(&[][..], |snapshot| &snapshot.params),
                source: self.source(),
                run: self.run_name(),
                namespace: self.namespace(),
                pipeline: snapshot.map_or("", |snapshot| &snapshot.name),
            })
        })
    }

    /// Prepares an expression: as much as it uses.
    pub(super) fn evaluator(&self, pipeline: &ValidPipeline, inputs: Inputs<'_>) -> Evaluator<'_> {
        let Inputs {
            job,
            matrix,
            uses,
            status,
            steps,
        } = inputs;
        let used: Vec<usize> = if uses.all_jobs {
            let main = pipeline.spec.jobs.len();
            let reaches = (job < main).then(|| pipeline.graph.reaches(job));
            let is_known = |other: &usize| reaches.as_ref().is_none_or(|known| known[*other]);
            (0..main).filter(is_known).collect()
        } else {
            let find = |name: &String| pipeline.index.get(name).copied();
            uses.jobs.iter().filter_map(find).collect()
        };
        let jobs = used
            .into_iter()
            .map(|i| job_values(&pipeline.jobs[i], self.group(i)));
        let values = Values {
            matrix,
            jobs: jobs.collect(),
            steps,
            status,
        };
        Evaluator::new(self.base(), &values)
    }

    /// The run's own environment.
    pub(super) fn env(&self) -> &'a [EnvVar] {
        &self.observed.run.spec.env
    }

    pub(super) fn source(&self) -> Source<'a> {
        let Some(source) = &self.observed.run.spec.source else {
            return Source::default();
        };
        Source {
            branch: source.branch.as_deref().unwrap_or_default(),
            tag: source.tag.as_deref().unwrap_or_default(),
            commit: source.commit.as_deref().unwrap_or_default(),
            pull_request: source.pull_request.unwrap_or_default(),
        }
    }
}

/// What an expression is evaluated for and with.
pub(super) struct Inputs<'i> {
    /// Index of the job in the pipeline.
    pub(super) job: usize,
    pub(super) matrix: &'i [NamedValue<ParamValue>],
    pub(super) uses: &'i Uses,
    pub(super) status: Status,
    /// What the job's own steps have written, if it has ended.
    pub(super) steps: Vec<StepValues<'i>>,
}

fn job_values<'a>(job: &'a ValidJob, group: &'a [JobStatus]) -> JobValues<'a> {
    let of_matrix = |entry: &'a JobStatus| MatrixValues {
        values: &entry.matrix,
        result: format!("{:?}", entry.state),
        outputs: outputs(job, entry),
    };
    let has_matrix = job.matrix.is_some();
    JobValues {
        name: &job.spec.name,
        result: format!("{:?}", condition::result(group)),
        outputs: match group {
            [entry] if !has_matrix => outputs(job, entry),
            _ => Vec::new(),
        },
        matrix: has_matrix.then(|| group.iter().map(of_matrix).collect()),
    }
}

fn outputs<'a>(job: &'a ValidJob, entry: &'a JobStatus) -> Vec<(&'a str, &'a str)> {
    let value = |name: &str| {
        let found = entry
            .outputs
            .iter()
            .find(|NamedValue { name: known, .. }| known == name);
        found.map_or("", |output| output.value.as_str())
    };
    let declared = job.outputs.iter();
    declared
        .map(|(name, _)| (name.as_str(), value(name)))
        .collect()
}

impl PlacePhase {
    /// True while the place may still hold a node's resources or start to.
    pub(super) fn is_alive(&self) -> bool {
        match self {
            Self::Creating | Self::Pending { .. } | Self::Waiting { .. } | Self::Running { .. } => {
                true
            }
            Self::Ended { .. }
            | Self::Deleting { .. }
            | Self::Gone { .. }
            | Self::Refused { .. } => false,
        }
    }
}
