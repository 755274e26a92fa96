//! The state of one call of `plan`: what is known, and what has been decided so far.
//! Must not decide anything itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{JobStatus, NamedValue, PipelineRunStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::{AgentFact, JobKey, Observed, PlaceFact, PlacePhase, PoolFact, Settings};
use super::plan::{Action, Event, EventType, OfferSpec, Plan};
use crate::expression::{Evaluator, JobValues, Source, Status, StepValues, Uses, Values};
use crate::validate::ValidPipeline;

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
    /// Offers that are made for the attempts of this turn, by index of the job.
    pub(super) offers: BTreeMap<usize, OfferSpec>,
    wake: Option<Timestamp>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let free = observed
            .pools
            .iter()
            .filter_map(|pool| Some((pool.name.as_str(), pool.free?)));
        Self {
            observed,
            now,
            status: observed.run.status.clone().unwrap_or_default(),
            steps: Vec::new(),
            events: Vec::new(),
            free: free.collect(),
            offers: BTreeMap::new(),
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
        let same = |place: &&PlaceFact| place.job == job.name && place.attempt == job.attempt;
        self.observed.places.iter().find(same)
    }

    /// What the hub knows of a job's current attempt.
    pub(super) fn agent(&self, job: usize) -> Option<&'a AgentFact> {
        let job = &self.status.jobs[job];
        self.observed.agents.iter().find(|agent| {
            agent.job == job.name && agent.attempt == job.attempt && agent.fence == job.fence
        })
    }

    pub(super) fn pool(&self, name: &str) -> Option<&'a PoolFact> {
        self.observed.pools.iter().find(|pool| pool.name == name)
    }

    /// Prepares expressions of a job: as much as they use, with the outputs of its own steps if it
    /// has ended.
    pub(super) fn evaluator(
        &self,
        pipeline: &ValidPipeline,
        job: usize,
        uses: &Uses,
        status: Status,
        steps: Vec<StepValues<'_>>,
    ) -> Evaluator {
        let used: Vec<usize> = if uses.all_jobs {
            let main = pipeline.spec.jobs.len();
            let is_known = |reaches: &[bool], other: usize| job >= main || reaches[other];
            let reaches = match job < main {
                true => pipeline.graph.reaches(job),
                false => Vec::new(),
            };
            (0..main)
                .filter(|other| is_known(&reaches, *other))
                .collect()
        } else {
            let find = |name: &String| pipeline.index.get(name).copied();
            uses.jobs.iter().filter_map(find).collect()
        };
        let jobs = used
            .into_iter()
            .map(|i| job_values(pipeline, i, &self.status.jobs[i]))
            .collect();
        let snapshot = self.status.pipeline.as_ref();
        Evaluator::new(&Values {
            params: snapshot.map_or(&[][..], |snapshot| &snapshot.params),
            matrix: &[],
            source: self.source(),
            run: self.run_name(),
            namespace: self.namespace(),
            pipeline: snapshot.map_or("", |snapshot| &snapshot.name),
            jobs,
            steps,
            status,
        })
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

fn job_values<'a>(pipeline: &'a ValidPipeline, job: usize, status: &'a JobStatus) -> JobValues<'a> {
    let value = |name: &str| {
        let found = status
            .outputs
            .iter()
            .find(|NamedValue { name: known, .. }| known == name);
        found.map_or("", |output| output.value.as_str())
    };
    let outputs = &pipeline.jobs[job].outputs;
    JobValues {
        name: &status.name,
        result: format!("{:?}", status.state),
        outputs: outputs
            .iter()
            .map(|(name, _)| (name.as_str(), value(name)))
            .collect(),
        matrix: None,
    }
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
