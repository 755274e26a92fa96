//! Runs of one concurrency group, each planned by itself with the others as facts.
//! Must not test how the group's name is built, but for one story.

use crds::{Concurrency, ConcurrencyPolicy, RunSource};
use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

/// Several runs that see each other.
struct Group {
    worlds: Vec<World>,
}

impl Group {
    fn new(policies: &[ConcurrencyPolicy]) -> Self {
        let mut group = Self { worlds: Vec::new() };
        for policy in policies {
            group.add(Concurrency {
                policy: *policy,
                ..Concurrency::default()
            });
        }
        group
    }

    fn add(&mut self, concurrency: Concurrency) {
        let number = self.worlds.len();
        let mut spec = pipeline(vec![job("build", &[])], vec![]);
        spec.concurrency = Some(Concurrency {
            group: "deploy-${{ source.branch }}".to_owned(),
            ..concurrency
        });
        let mut world = World::new(spec);
        world.run.metadata.name = Some(format!("r{number}"));
        world.run.metadata.uid = Some(format!("uid-{number}"));
        world.run.spec.source = Some(RunSource {
            branch: Some("main".to_owned()),
            ..RunSource::default()
        });
        self.worlds.push(world);
    }

    /// One turn of each run, in this order.
    fn turn(&mut self, order: &[usize]) {
        for i in order {
            let rivals = self.worlds.iter().filter_map(|world| Rival::of(&world.run));
            self.worlds[*i].rivals = rivals.collect();
            self.worlds[*i].turn();
        }
    }

    fn run_job(&mut self, i: usize) {
        self.worlds[i].run_job("build");
    }

    fn summary(&self) -> String {
        let lines = self.worlds.iter().map(|world| {
            let status = world.status();
            let condition = status.conditions.iter().find(|c| c.type_ == "Succeeded");
            let condition = condition.expect("every run has it");
            let name = world.run.metadata.name.as_deref().unwrap_or_default();
            format!(
                "{name} {} {}: {}",
                condition.status, condition.reason, condition.message
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

const QUEUE: ConcurrencyPolicy = ConcurrencyPolicy::Queue;
const LATEST: ConcurrencyPolicy = ConcurrencyPolicy::LatestOnly;
const CANCEL: ConcurrencyPolicy = ConcurrencyPolicy::CancelInProgress;

#[test]
fn queued_runs_start_one_after_the_other_in_their_order() {
    let mut group = Group::new(&[QUEUE, QUEUE, QUEUE]);
    group.turn(&[0, 2, 1]);
    group.turn(&[0, 1, 2]);
    assert_snapshot!(group.summary(), @r"
    r0 Unknown Running: 0 of 1 job done
    r1 Unknown Queued: waits for the group `deploy-main`, held by the run `r0`: it is number 1 in the queue
    r2 Unknown Queued: waits for the group `deploy-main`, held by the run `r0`: it is number 2 in the queue
    ");
    let waiting = group.worlds[2].status().concurrency.clone().unwrap();
    assert_eq!(
        (waiting.position, waiting.holder.as_deref()),
        (Some(2), Some("r0"))
    );
    assert!(
        group.worlds[1].status().jobs.is_empty(),
        "nothing is started"
    );
    group.run_job(0);
    group.turn(&[2, 1]);
    assert_eq!(
        group.worlds[2]
            .status()
            .concurrency
            .clone()
            .unwrap()
            .position,
        Some(2)
    );
    group.run_job(1);
    group.turn(&[2]);
    let started = group.worlds[2].status().concurrency.clone().unwrap();
    assert_eq!((started.position, started.holder), (None, None));
    group.run_job(2);
    assert!(
        group
            .worlds
            .iter()
            .all(|world| verdict(world.status()) == Verdict::Succeeded)
    );
}

#[test]
fn a_newer_run_cancels_what_runs_and_what_waits() {
    let mut group = Group::new(&[QUEUE, QUEUE]);
    group.turn(&[0, 1]);
    group.worlds[0].accept("build");
    group.turn(&[0]);
    group.add(Concurrency {
        policy: CANCEL,
        ..Concurrency::default()
    });
    group.turn(&[2, 1, 0]);
    assert_snapshot!(group.summary(), @r"
    r0 Unknown Cancelling: 0 of 1 job done; job `build`: a newer run of its group took its place
    r1 False Superseded: the newer run `r2` of its group takes its place
    r2 Unknown Queued: waits for the group `deploy-main`, held by the run `r0`: it is number 2 in the queue
    ");
    let step = StepFact {
        phase: StepPhase::Cancelled,
        ..StepFact::default()
    };
    group.worlds[0].result("build", JobOutcome::Cancelled, step);
    group.turn(&[0, 2]);
    assert_eq!(verdict(group.worlds[0].status()), Verdict::Cancelled);
    group.run_job(2);
    assert_snapshot!(group.summary(), @r"
    r0 False Superseded: 0 of 1 job succeeded; the newer run `r2` of its group takes its place
    r1 False Superseded: the newer run `r2` of its group takes its place
    r2 True Succeeded: 1 job succeeded
    ");
}

#[test]
fn only_the_latest_of_those_that_wait_stays() {
    let mut group = Group::new(&[LATEST, LATEST, LATEST, LATEST]);
    group.turn(&[0, 1, 2, 3]);
    group.turn(&[0, 1, 2, 3]);
    assert_snapshot!(group.summary(), @r"
    r0 Unknown Running: 0 of 1 job done
    r1 False Superseded: the newer run `r2` of its group takes its place
    r2 False Superseded: the newer run `r3` of its group takes its place
    r3 Unknown Queued: waits for the group `deploy-main`, held by the run `r0`: it is number 1 in the queue
    ");
    group.run_job(0);
    group.turn(&[3]);
    assert_eq!(group.worlds[3].job("build").state, crds::JobState::Starting);
}

#[test]
fn priority_comes_before_age_and_several_may_run() {
    let mut group = Group::new(&[]);
    for priority in [0, 0, 0, 5] {
        group.add(Concurrency {
            priority: Some(priority),
            max_parallel: Some(2),
            ..Concurrency::default()
        });
    }
    group.turn(&[0, 1, 2, 3]);
    group.turn(&[2, 3]);
    assert_snapshot!(group.summary(), @r"
    r0 Unknown Running: 0 of 1 job done
    r1 Unknown Running: 0 of 1 job done
    r2 Unknown Queued: waits for the group `deploy-main`, held by the run `r0`: it is number 2 in the queue
    r3 Unknown Queued: waits for the group `deploy-main`, held by the run `r0`: it is number 1 in the queue
    ");
    group.run_job(1);
    group.turn(&[2, 3]);
    assert!(group.worlds[2].status().start_time.is_none());
    assert!(group.worlds[3].status().start_time.is_some());
}

#[test]
fn a_suspended_run_does_not_hold_up_the_queue_and_a_cancelled_one_leaves_it() {
    let mut group = Group::new(&[QUEUE, QUEUE, QUEUE]);
    group.turn(&[0, 1, 2]);
    group.worlds[1].run.spec.suspend = true;
    group.run_job(0);
    group.turn(&[1, 2]);
    assert!(group.worlds[2].status().start_time.is_some());
    group.worlds[1].run.spec.cancel = true;
    group.turn(&[1]);
    assert_snapshot!(group.summary(), @r"
    r0 True Succeeded: 1 job succeeded
    r1 False Cancelled: the run was cancelled before it started
    r2 Unknown Running: 0 of 1 job done
    ");
}

#[test]
fn runs_of_other_groups_do_not_wait() {
    let mut group = Group::new(&[QUEUE, QUEUE, QUEUE]);
    let branch = |name: &str| {
        Some(RunSource {
            branch: Some(name.to_owned()),
            ..RunSource::default()
        })
    };
    group.worlds[1].run.spec.source = branch("other");
    group.worlds[2].run.spec.source = branch(&"x".repeat(600));
    group.turn(&[0, 1, 2]);
    assert!(group.worlds[1].status().start_time.is_some());
    assert_eq!(verdict(group.worlds[2].status()), Verdict::Failed);
}

/// Every order in which five runs can be looked at, and every end in between: never two at once.
#[test]
fn a_group_never_holds_more_than_it_may_in_any_order() {
    for seed in 1..300_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |end: usize| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state >> 33) as usize % end
        };
        let policies = [QUEUE, LATEST, CANCEL];
        let mut group = Group::new(&[]);
        for _ in 0..5 {
            let policy = policies[below(3)];
            group.add(Concurrency {
                policy,
                ..Concurrency::default()
            });
        }
        for _ in 0..800 {
            let i = below(5);
            group.turn(&[i]);
            let is_started = group.worlds[i]
                .status()
                .jobs
                .iter()
                .any(|job| is_active(job.state));
            if is_started && below(4) == 0 {
                let taken = group.worlds[i].agents.iter().any(|a| a.result.is_none());
                if !taken {
                    group.worlds[i].accept("build");
                }
                group.worlds[i].succeed("build");
            }
            let holders = group
                .worlds
                .iter()
                .filter(|world| Rival::of(&world.run).is_some_and(|rival| rival.holds));
            assert!(
                holders.count() <= 1,
                "seed {seed}: {}",
                group.summary_of_known()
            );
        }
        let done = |world: &World| {
            world
                .run
                .status
                .as_ref()
                .is_some_and(|status| status.completion_time.is_some())
        };
        assert!(
            group.worlds.iter().all(done),
            "seed {seed}: {}",
            group.summary_of_known()
        );
    }
}

impl Group {
    fn summary_of_known(&self) -> String {
        let known = self.worlds.iter().filter_map(|world| Rival::of(&world.run));
        format!("{:?}", known.collect::<Vec<_>>())
    }
}
