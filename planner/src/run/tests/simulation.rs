//! Runs with random graphs, random order and random faults; the invariants hold at every turn.
//! Must not expect a certain end, only that what must always hold does.

use std::collections::BTreeSet;

use crds::JobState;

use super::world::*;
use crate::run::*;

const SEEDS: u64 = 10_000;
/// Runs that are retried.
const RETRIED_SEEDS: u64 = 2_000;
/// Turns in which every run must have ended; time passes in each.
const MAX_TURNS: usize = 600;

/// Conditions of jobs; most have none.
const WHENS: [Option<&str>; 7] = [
    None,
    None,
    None,
    None,
    Some("always()"),
    Some("failure()"),
    Some("run.name == 'other'"),
];

/// xorshift64*, <https://en.wikipedia.org/wiki/Xorshift>.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }
}

struct Simulation {
    world: World,
    chance: Chance,
    /// Attempts whose steps have run.
    executed: BTreeSet<(String, u32, u64)>,
    /// Agents whose word the operator has forgotten by a restart, until they connect again.
    unheard: Vec<AgentFact>,
    cancelled_at: Option<jiff::Timestamp>,
    with_faults: bool,
}

#[test]
fn invariants_hold_in_every_order_and_with_every_fault() {
    let mut verdicts = Vec::new();
    for seed in 1..=SEEDS {
        let verdict = verdict(simulate(seed, true).status());
        if !verdicts.contains(&verdict) {
            verdicts.push(verdict);
        }
    }
    assert_eq!(
        verdicts.len(),
        5,
        "the faults reach every end: {verdicts:?}"
    );
}

#[test]
fn invariants_hold_for_runs_that_take_over_jobs_of_an_ended_one() {
    let mut taken_over = 0;
    for seed in 1..=RETRIED_SEEDS {
        let world = retry_of(seed, simulate(seed, true));
        let jobs = world.status().jobs.iter();
        taken_over += jobs.filter(|job| job.from_run.is_some()).count();
        let status = world.status();
        assert_ne!(status.conditions[0].reason, "RetryRefused", "seed {seed}");
    }
    assert!(taken_over > 1_000, "only {taken_over} jobs were taken over");
}

#[test]
fn without_faults_every_run_succeeds() {
    for seed in 1..=200 {
        let world = simulate(seed, false);
        assert_eq!(
            verdict(world.status()),
            Verdict::Succeeded,
            "seed {seed}: {}",
            world.summary()
        );
    }
}

fn retry(chance: &mut Chance) -> crds::Retry {
    crds::Retry {
        limit: 1 + chance.below(2) as u32,
        failures: match chance.below(3) {
            0 => vec![],
            1 => vec![crds::RetryOn::User],
            _ => vec![crds::RetryOn::Infrastructure, crds::RetryOn::OutOfMemory],
        },
        ..crds::Retry::default()
    }
}

fn matrix(chance: &mut Chance) -> crds::Matrix {
    let values = |count: usize| (0..count as i64).map(crds::ParamValue::Integer);
    let from = chance.one_in(2).then(|| "[0, 1]".to_owned());
    crds::Matrix {
        axes: vec![crds::Axis {
            name: "n".to_owned(),
            values: match from {
                Some(_) => Vec::new(),
                None => values(1 + chance.below(3)).collect(),
            },
            from,
        }],
        max_parallel: chance.one_in(2).then_some(1),
        fail_fast: chance.one_in(2).then_some(false),
        ..crds::Matrix::default()
    }
}

fn simulate(seed: u64, with_faults: bool) -> World {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let count = 1 + chance.below(6);
    let jobs = (0..count).map(|i| {
        let needs: Vec<_> = (0..i)
            .filter(|_| chance.one_in(3))
            .map(|n| format!("j{n}"))
            .collect();
        let needs: Vec<_> = needs.iter().map(String::as_str).collect();
        let timeout = Some("3m".to_owned());
        let when = with_faults.then(|| WHENS[chance.below(WHENS.len())]);
        crds::Job {
            timeout,
            when: when.flatten().map(str::to_owned),
            continue_on_error: with_faults && chance.one_in(6),
            retry: chance.one_in(3).then(|| retry(&mut chance)),
            matrix: chance.one_in(5).then(|| matrix(&mut chance)),
            approval: chance.one_in(6).then(|| crds::JobApproval {
                timeout: Some("5m".to_owned()),
                ..crds::JobApproval::default()
            }),
            ..job(&format!("j{i}"), &needs)
        }
    });
    let jobs = jobs.collect();
    let finally = (0..chance.below(3)).map(|i| crds::Job {
        timeout: Some("3m".to_owned()),
        ..job(&format!("f{i}"), &[])
    });
    let mut spec = pipeline(jobs, finally.collect());
    if with_faults && chance.one_in(4) {
        spec.timeout = Some("4m".to_owned());
    }
    Simulation::new(World::new(spec), chance, with_faults).run_out(seed)
}

/// A run that takes over from an ended one.
fn retry_of(seed: u64, ended: World) -> World {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let succeeded = verdict(ended.status()) == Verdict::Succeeded;
    let failed = !succeeded && chance.one_in(2);
    let spec = ended.run.spec.pipeline_spec.clone().unwrap();
    let any = chance.below(spec.jobs.len());
    let mut world = World::new(spec);
    world.run.metadata.uid = Some("uid-2".to_owned());
    world.run.spec.retry_of = Some(crds::RetryOf {
        run: "build-7".to_owned(),
        failed,
        from_job: (!failed).then(|| format!("j{any}")),
        force: false,
    });
    world.retried = Some(ended.run);
    Simulation::new(world, chance, true).run_out(seed)
}

impl Simulation {
    fn new(world: World, chance: Chance, with_faults: bool) -> Self {
        Self {
            world,
            chance,
            executed: BTreeSet::new(),
            unheard: Vec::new(),
            cancelled_at: None,
            with_faults,
        }
    }

    fn run_out(mut self, seed: u64) -> World {
        for _ in 0..MAX_TURNS {
            self.turn(seed);
            if self.world.status().completion_time.is_some() {
                self.settle(seed);
                return self.world;
            }
        }
        panic!(
            "seed {seed}: the run does not end: {}",
            self.world.summary()
        );
    }

    fn turn(&mut self, seed: u64) {
        let seconds = self.chance.below(if self.with_faults { 20 } else { 2 }) as u64;
        self.world.pass(seconds);
        for _ in 0..=self.chance.below(3) {
            self.happen();
        }
        if self.with_faults {
            self.disturb();
        }
        let before = self.world.run.status.clone();
        let plan = self.world.plan();
        self.check(seed, before.as_ref(), &plan);
        self.world.before_report(&plan);
        // The operator is killed, or the API server does not take the status.
        if !(self.with_faults && self.chance.one_in(12)) {
            self.world.report(&plan);
        } else if before.is_none() {
            self.world.run.status = Some(crds::PipelineRunStatus::default());
        }
    }

    /// After its end a run does not change, and its places go.
    fn settle(&mut self, seed: u64) {
        let end = self.world.status().clone();
        for _ in 0..4 {
            self.world.pass(60);
            self.world.turn();
            assert_eq!(
                *self.world.status(),
                end,
                "seed {seed}: a finished run changed"
            );
        }
        let alive = self
            .world
            .places
            .iter()
            .find(|place| place.phase.is_alive());
        assert_eq!(alive, None, "seed {seed}: a place outlives its run");
    }

    /// Somebody answers a job, whether it waits or not.
    fn people_answer(&mut self) {
        let decision = match self.with_faults && self.chance.one_in(4) {
            true => crds::Decision::Reject,
            false => crds::Decision::Approve,
        };
        let name = format!("answer-{}", self.chance.below(1000));
        self.world.approvals.push(ApprovalFact {
            job: format!("j{}", self.chance.below(6)),
            decision,
            by: "ann".to_owned(),
            at: self.world.now,
            comment: None,
            name,
        });
    }

    /// One place or agent goes a step further.
    fn happen(&mut self) {
        if self.chance.one_in(8) {
            self.people_answer();
        }
        if self.world.places.is_empty() {
            return;
        }
        let i = self.chance.below(self.world.places.len());
        let now = self.world.now;
        let place = self.world.places[i].clone();
        let next = match place.phase {
            PlacePhase::Creating => PlacePhase::Pending {
                since: now,
                scheduled: None,
                message: String::new(),
            },
            PlacePhase::Pending { since, .. } => PlacePhase::Waiting {
                reason: "ContainerCreating".to_owned(),
                message: String::new(),
                since,
            },
            PlacePhase::Waiting { ref reason, .. } if reason == "ContainerCreating" => {
                PlacePhase::Running { since: now }
            }
            PlacePhase::Running { .. } => return self.agent_happens(&place.job, place.attempt),
            _ => return,
        };
        self.world.places[i].phase = next;
    }

    fn agent_happens(&mut self, job: &str, attempt: u32) {
        let is_it = |agent: &AgentFact| agent.job == job && agent.attempt == attempt;
        if let Some(i) = self.unheard.iter().position(is_it) {
            let agent = self.unheard.swap_remove(i);
            return self.world.agents.push(AgentFact {
                accepted_at: None,
                ..agent
            });
        }
        let Some(agent) = self.world.agents.iter().find(|agent| is_it(agent)).cloned() else {
            let mut offers = self.world.offers.iter();
            let offer = offers.find(|key| key.job == job && key.attempt == attempt);
            if let Some(key) = offer.cloned() {
                let first = self.executed.insert((key.job, key.attempt, key.fence));
                assert!(first, "the job {job} runs twice");
                let entry = self.world.job(job);
                assert_eq!(entry.from_run, None, "a job that was taken over runs");
                self.world.accept(job);
            }
            return;
        };
        let was_cancelled =
            (self.world.cancels.iter()).any(|key| key.job == job && key.attempt == attempt);
        if agent.result.is_some() {
        } else if was_cancelled {
            let step = StepFact {
                phase: StepPhase::Cancelled,
                ..StepFact::default()
            };
            self.world.result(job, JobOutcome::Cancelled, step);
        } else if self.with_faults && self.chance.one_in(5) {
            self.world.fail(job, 3);
        } else {
            self.world.succeed(job);
        }
    }

    fn disturb(&mut self) {
        let now = self.world.now;
        match self.chance.below(60) {
            0 if self.cancelled_at.is_none() => {
                self.world.run.spec.cancel = true;
                self.cancelled_at = Some(now);
            }
            1 => self.world.run.spec.suspend = true,
            2..=8 => self.world.run.spec.suspend = false,
            9 => self.restart(),
            10..=16 if !self.world.places.is_empty() => {
                let i = self.chance.below(self.world.places.len());
                let job = self.world.places[i].job.clone();
                if self.world.places[i].phase.is_alive() {
                    let attempt = self.world.places[i].attempt;
                    let is_it = |name: &str, number: u32| *name == job && number == attempt;
                    let has_run = self.executed.iter().any(|(name, a, _)| is_it(name, *a));
                    self.world.places[i].phase = self.fault(has_run);
                    self.world.agents.retain(|a| !is_it(&a.job, a.attempt));
                    self.unheard.retain(|a| !is_it(&a.job, a.attempt));
                    // It ran, and went before anybody could write that: nobody knows, and the
                    // attempt may be made again.
                    if self.world.run.status.is_none()
                        || self
                            .world
                            .status()
                            .jobs
                            .iter()
                            .any(|known| known.name == job && known.state == JobState::Starting)
                    {
                        self.executed.retain(|(name, a, _)| !is_it(name, *a));
                    }
                }
            }
            17..=19 => {
                let job = format!("j{}", self.chance.below(6));
                let kinds = [RefusalKind::Quota, RefusalKind::Invalid, RefusalKind::Other];
                let kind = kinds[self.chance.below(3)];
                self.world.refuse.push((job, kind));
            }
            _ => {}
        }
    }

    /// An operator that forgets all it was told and what it remembers of places.
    fn restart(&mut self) {
        self.unheard.append(&mut self.world.agents);
        self.world.offers.clear();
        self.world.places.retain(|place| {
            !matches!(
                place.phase,
                PlacePhase::Gone { .. } | PlacePhase::Refused { .. }
            )
        });
        self.world.observing_since = self.world.now;
    }

    /// A container that has run does not wait again.
    fn fault(&mut self, has_run: bool) -> PlacePhase {
        let (now, none) = (self.world.now, String::new());
        let waiting = |reason: &str| PlacePhase::Waiting {
            reason: reason.to_owned(),
            message: "see the event".to_owned(),
            since: now,
        };
        match self.chance.below(if has_run { 6 } else { 9 }) {
            0 => PlacePhase::Gone {
                reason: none.clone(),
                message: none,
            },
            1 => PlacePhase::Gone {
                reason: "DeletionByTaintManager".to_owned(),
                message: none,
            },
            2 => ended(137, "OOMKilled"),
            3 => ended(1, "Error"),
            4 => ended(137, "Evicted"),
            5 => PlacePhase::Deleting {
                since: now,
                reason: none.clone(),
                message: none,
            },
            6 => waiting("ImagePullBackOff"),
            7 => waiting("CreateContainerConfigError"),
            _ => PlacePhase::Pending {
                since: now,
                scheduled: Some(false),
                message: none,
            },
        }
    }

    fn check(&self, seed: u64, before: Option<&crds::PipelineRunStatus>, plan: &Plan) {
        let spec = self.world.run.spec.pipeline_spec.as_ref().unwrap();
        let jobs = &plan.status.jobs;
        let states = |name: &str| {
            let group = jobs.iter().filter(|job| base(job) == name);
            group.map(|job| job.state).collect::<Vec<_>>()
        };
        for action in &plan.steps {
            let Action::CreatePlace(place) = action else {
                continue;
            };
            let job = jobs.iter().find(|job| job.name == place.key.job).unwrap();
            let raw = spec.jobs.iter().find(|raw| raw.name == base(job));
            let old = self.world.places.iter().find(|old| {
                let is_alive = old.phase.is_alive();
                old.job == job.name && old.attempt < place.key.attempt && is_alive
            });
            assert_eq!(old, None, "seed {seed}: two attempts at once");
            let needs: Vec<_> = match raw {
                Some(job) => job.needs.iter().flat_map(|need| states(need)).collect(),
                None => spec.jobs.iter().flat_map(|job| states(&job.name)).collect(),
            };
            let matrix = raw.and_then(|job| job.matrix.as_ref());
            if let Some(most) = matrix.and_then(|matrix| matrix.max_parallel) {
                let active = states(base(job))
                    .into_iter()
                    .filter(|state| is_active(*state));
                assert!(
                    active.count() <= most as usize,
                    "seed {seed}: too many at once"
                );
            }
            let approved = plan.status.approvals.iter().find(|it| it.job == base(job));
            assert!(
                raw.is_none_or(|raw| raw.approval.is_none())
                    || approved.is_some_and(|it| it.decision == Some(crds::Decision::Approve)),
                "seed {seed}: a job starts that nobody approved"
            );
            let job = &place.key.job;
            assert!(
                needs.iter().all(|need| need.is_final()),
                "seed {seed}: {job} starts early"
            );
            let may_be_built_on = |need: &String| {
                let mut group = jobs.iter().filter(|job| base(job) == need);
                group.all(|need| need.state == JobState::Succeeded || need.tolerated)
            };
            let is_right = match raw.and_then(|job| job.when.as_deref()) {
                Some("always()") => true,
                Some("failure()") => jobs.iter().any(|job| job.state == JobState::Failed),
                Some(_) => false,
                None => raw.is_none_or(|job| job.needs.iter().all(may_be_built_on)),
            };
            assert!(is_right, "seed {seed}: {job} starts against its condition");
        }
        for old in before.iter().flat_map(|status| &status.approvals) {
            let new = plan.status.approvals.iter().find(|new| new.job == old.job);
            let new = new.expect("a question stays");
            assert_eq!(new.since, old.since, "seed {seed}: a job asks twice");
            if old.decision.is_some() {
                assert_eq!(new, old, "seed {seed}: an answer changed");
            }
        }
        for old in before.iter().flat_map(|status| &status.jobs) {
            let Some(new) = jobs.iter().find(|job| job.name == old.name) else {
                let expanded = jobs.iter().any(|job| job.job.as_ref() == Some(&old.name));
                assert!(expanded && old.attempt == 0, "seed {seed}: a job went away");
                continue;
            };
            assert!(
                new.fence >= old.fence && new.attempt >= old.attempt,
                "seed {seed}: fence"
            );
            let raw = spec.jobs.iter().find(|raw| raw.name == base(new));
            let retry = raw.and_then(|job| job.retry.as_ref());
            let most = 1 + retry.map_or(0, |retry| retry.limit);
            assert!(new.attempt <= most, "seed {seed}: too many attempts");
            let on = retry.map_or(&[][..], |retry| &retry.failures);
            let is_wrong = |past: &crds::AttemptStatus| {
                past.failure_class == Some(crds::FailureClass::User)
                    && !on.contains(&crds::RetryOn::User)
            };
            assert!(
                !new.attempts.iter().any(is_wrong),
                "seed {seed}: a user's error retried"
            );
            if old.state.is_final() {
                assert_eq!(old, new, "seed {seed}: a final state changed");
            }
        }
        if plan.status.completion_time.is_some() {
            for job in jobs.iter().filter(|job| job.is_finally) {
                assert!(
                    matches!(job.state, JobState::Succeeded | JobState::Failed),
                    "seed {seed}: the finally job {} did not run",
                    job.name
                );
            }
        } else {
            let suspended = self.world.run.spec.suspend;
            let woken = plan.recheck.is_some() || suspended;
            let active = jobs.iter().any(|job| is_active(job.state));
            assert!(woken || active, "seed {seed}: nothing wakes the run");
            assert!(
                plan.recheck.is_some() || !active,
                "seed {seed}: a job without a limit"
            );
        }
        if let Some(at) = self.cancelled_at {
            let main_open = jobs
                .iter()
                .any(|job| !job.is_finally && !job.state.is_final());
            let waited = self.world.now.duration_since(at).as_secs();
            assert!(
                !main_open || waited < 200,
                "seed {seed}: the cancel does not end"
            );
        }
    }
}

/// Name of a job in the pipeline.
fn base(job: &crds::JobStatus) -> &str {
    job.job.as_ref().unwrap_or(&job.name)
}
