//! A small cluster in memory: applies plans as the operator does, and keeps facts.
//! Must not decide what happens to places and agents: the tests do.

use std::collections::BTreeSet;
use std::time::Duration;

use crds::{Job, JobState, JobStatus, PipelineRun, PipelineRunSpec, PipelineSpec, Step};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::reuse::{Entry, Library};
use crate::run::*;

pub(super) struct World {
    pub(super) run: PipelineRun,
    pub(super) places: Vec<PlaceFact>,
    pub(super) agents: Vec<AgentFact>,
    /// Pipelines that the run's pipeline may use.
    pub(super) others: Vec<(String, PipelineSpec)>,
    pub(super) pools: Vec<PoolFact>,
    pub(super) retried: Option<PipelineRun>,
    pub(super) rivals: Vec<Rival>,
    pub(super) approvals: Vec<ApprovalFact>,
    pub(super) settings: Settings,
    pub(super) prepared: Prepared,
    pub(super) now: Timestamp,
    pub(super) observing_since: Timestamp,
    /// Offers that the hub holds.
    pub(super) offers: BTreeSet<JobKey>,
    pub(super) cancels: BTreeSet<JobKey>,
    /// Status writes that had to happen at once.
    pub(super) writes: usize,
    pub(super) events: Vec<String>,
    /// Jobs whose next place the API server refuses.
    pub(super) refuse: Vec<(String, RefusalKind)>,
}

pub(super) fn job(name: &str, needs: &[&str]) -> Job {
    Job {
        name: name.to_owned(),
        image: Some("busybox".to_owned()),
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        steps: vec![Step {
            name: "main".to_owned(),
            run: "true".to_owned(),
            ..Step::default()
        }],
        ..Job::default()
    }
}

pub(super) fn pipeline(jobs: Vec<Job>, finally_jobs: Vec<Job>) -> PipelineSpec {
    PipelineSpec {
        jobs,
        finally_jobs,
        ..PipelineSpec::default()
    }
}

/// A run of one job that was started.
pub(super) fn single() -> World {
    let mut world = World::new(pipeline(vec![job("build", &[])], vec![]));
    world.turn();
    world
}

impl World {
    pub(super) fn new(spec: PipelineSpec) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let spec = PipelineRunSpec {
            pipeline_spec: Some(spec),
            ..PipelineRunSpec::default()
        };
        let mut run = PipelineRun::new("build-7", spec);
        run.metadata.namespace = Some("team".to_owned());
        run.metadata.uid = Some("uid-1".to_owned());
        run.metadata.generation = Some(1);
        run.metadata.creation_timestamp = Some(Time(now));
        Self {
            run,
            places: Vec::new(),
            agents: Vec::new(),
            pools: Vec::new(),
            others: Vec::new(),
            retried: None,
            rivals: Vec::new(),
            approvals: Vec::new(),
            settings: Settings::default(),
            prepared: Prepared::default(),
            now,
            observing_since: now,
            offers: BTreeSet::new(),
            cancels: BTreeSet::new(),
            writes: 0,
            events: Vec::new(),
            refuse: Vec::new(),
        }
    }

    pub(super) fn plan(&self) -> Plan {
        let mut library = Library::default();
        for (name, spec) in &self.others {
            let entry = Entry {
                uid: Some("uid-other"),
                generation: Some(4),
                spec,
            };
            library.add(name, entry);
        }
        let observed = Observed {
            run: &self.run,
            pipeline: match &self.run.spec.pipeline_ref {
                Some(reference) => PipelineFact::Missing {
                    name: &reference.name,
                },
                None => PipelineFact::Inline,
            },
            library,
            prepared: &self.prepared,
            places: self.places.clone(),
            agents: self.agents.clone(),
            pools: self.pools.clone(),
            retried: self.retried.as_ref(),
            rivals: self.rivals.clone(),
            approvals: self.approvals.clone(),
            logs: None,
            observing_since: self.observing_since,
            settings: &self.settings,
        };
        plan(&observed, self.now)
    }

    /// One reconcile that succeeds.
    pub(super) fn turn(&mut self) -> Plan {
        let plan = self.plan();
        self.before_report(&plan);
        self.report(&plan);
        plan
    }

    pub(super) fn before_report(&mut self, plan: &Plan) {
        for action in plan.steps.iter().filter(|action| !action.after_report()) {
            match action {
                Action::CreatePlace(spec) => self.create(spec),
                Action::Cancel { key, .. } => drop(self.cancels.insert(key.clone())),
                other => panic!("{other:?} is not for before the report"),
            }
        }
    }

    pub(super) fn report(&mut self, plan: &Plan) {
        let urgency = status_urgency(self.run.status.as_ref(), &plan.status);
        self.writes += usize::from(urgency == Write::Now);
        self.run.status = Some(plan.status.clone());
        for action in plan.steps.iter().filter(|action| action.after_report()) {
            match action {
                Action::Offer(offer) => {
                    let job = self.job(&offer.key.job);
                    assert_eq!(
                        (job.attempt, job.fence),
                        (offer.key.attempt, offer.key.fence),
                        "an offer stands in the written status"
                    );
                    self.offers.insert(offer.key.clone());
                }
                Action::DeletePlace { name, .. } => {
                    for place in self.places.iter_mut().filter(|place| place.name == *name) {
                        let (reason, message) = (String::new(), String::new());
                        place.phase = PlacePhase::Gone { reason, message };
                    }
                }
                Action::Acknowledge { key } => {
                    let job = self.job(&key.job);
                    assert!(
                        job.state.is_final() || job.retry_time.is_some(),
                        "only an end is acknowledged"
                    );
                    self.offers.remove(key);
                    self.cancels.remove(key);
                    let had_result = |agent: &AgentFact| {
                        agent.job == key.job && agent.fence == key.fence && agent.result.is_some()
                    };
                    if self.agents.iter().any(had_result) {
                        self.agents.retain(|agent| !had_result(agent));
                        self.set_place(&key.job, ended(0, "Completed"));
                    }
                }
                other => panic!("{other:?} is not for after the report"),
            }
        }
        self.events.extend(
            plan.events
                .iter()
                .map(|e| format!("{}: {}", e.reason, e.message)),
        );
    }

    fn create(&mut self, spec: &PlaceSpec) {
        let refusal = self.refuse.iter().position(|(job, _)| *job == spec.key.job);
        let phase = match refusal {
            Some(i) => {
                let (kind, message) = (self.refuse.remove(i).1, "no, said the server".to_owned());
                PlacePhase::Refused {
                    kind,
                    message,
                    at: self.now,
                }
            }
            None => PlacePhase::Creating,
        };
        let (job, attempt, name) = (spec.key.job.clone(), spec.key.attempt, spec.name.clone());
        match self.places.iter_mut().find(|place| place.name == name) {
            Some(place) if matches!(place.phase, PlacePhase::Refused { .. }) => place.phase = phase,
            Some(_) => {}
            None => self.places.push(PlaceFact {
                job,
                attempt,
                name,
                phase,
                companions: Vec::new(),
            }),
        }
    }

    pub(super) fn status(&self) -> &crds::PipelineRunStatus {
        self.run.status.as_ref().expect("a turn was made")
    }

    pub(super) fn job(&self, name: &str) -> &JobStatus {
        self.status()
            .jobs
            .iter()
            .find(|job| job.name == name)
            .expect("the pipeline has the job")
    }

    pub(super) fn set_place(&mut self, job: &str, phase: PlacePhase) {
        let of_job = self.places.iter_mut().filter(|place| place.job == job);
        if let Some(place) = of_job.max_by_key(|place| place.attempt) {
            place.phase = phase;
        }
    }

    pub(super) fn set_all(&mut self, phase: PlacePhase) {
        for place in &mut self.places {
            place.phase = phase.clone();
        }
    }

    /// The agent of a job connects and takes its offer.
    pub(super) fn accept(&mut self, job: &str) {
        let key = self
            .offers
            .iter()
            .filter(|key| key.job == job)
            .max_by_key(|key| key.fence)
            .expect("it was offered")
            .clone();
        self.set_place(job, PlacePhase::Running { since: self.now });
        self.agents.push(AgentFact {
            job: key.job,
            attempt: key.attempt,
            fence: key.fence,
            connected: true,
            accepted_at: Some(self.now),
            steps: vec![StepFact {
                phase: StepPhase::Running,
                started_at: Some(self.now),
                ..StepFact::default()
            }],
            result: None,
        });
    }

    pub(super) fn result(&mut self, job: &str, outcome: JobOutcome, step: StepFact) {
        let now = self.now;
        let agent = self
            .agents
            .iter_mut()
            .filter(|agent| agent.job == job)
            .max_by_key(|agent| agent.fence)
            .expect("it accepted");
        agent.steps = vec![StepFact {
            ended_at: Some(now),
            ..step
        }];
        agent.result = Some(JobResult {
            outcome,
            message: String::new(),
            outputs: Vec::new(),
        });
    }

    pub(super) fn succeed(&mut self, job: &str) {
        let (phase, exit_code) = (StepPhase::Succeeded, Some(0));
        let step = StepFact {
            phase,
            exit_code,
            ..StepFact::default()
        };
        self.result(job, JobOutcome::Succeeded, step);
    }

    pub(super) fn fail(&mut self, job: &str, exit_code: i32) {
        let exit_code = Some(exit_code);
        let step = StepFact {
            phase: StepPhase::Failed,
            exit_code,
            ..StepFact::default()
        };
        self.result(job, JobOutcome::StepFailed, step);
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Accepts, succeeds and acknowledges a job that was started.
    pub(super) fn run_job(&mut self, job: &str) {
        self.accept(job);
        self.turn();
        self.succeed(job);
        self.turn();
    }

    /// Every job as `name state reason class`, and the conditions.
    pub(super) fn summary(&self) -> String {
        let status = self.status();
        let mut lines: Vec<_> = status
            .jobs
            .iter()
            .map(|job| {
                let class = job.failure_class.map(|class| format!(" {class:?}"));
                let message = job.message.as_ref().map(|message| format!(": {message}"));
                format!(
                    "{} {:?} {}{}{}",
                    job.name,
                    job.state,
                    job.reason.as_deref().unwrap_or("-"),
                    class.unwrap_or_default(),
                    message.unwrap_or_default()
                )
            })
            .collect();
        let succeeded = status.conditions.iter().filter(|c| c.type_ == "Succeeded");
        lines.extend(succeeded.map(|c| format!("{}={} {}", c.type_, c.status, c.reason)));
        lines.extend(status.conditions.iter().take(1).map(|c| c.message.clone()));
        lines.join("\n")
    }
}

pub(super) fn ended(exit_code: i32, reason: &str) -> PlacePhase {
    let (exit_code, reason, message) = (Some(exit_code), reason.to_owned(), String::new());
    PlacePhase::Ended {
        exit_code,
        signal: None,
        reason,
        message,
    }
}

pub(super) fn is_active(state: JobState) -> bool {
    matches!(state, JobState::Starting | JobState::Running)
}
