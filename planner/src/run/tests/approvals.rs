//! Jobs that wait for people.
//! Must not test who may answer: that is the part of `crate::approval`.

use crds::{
    Axis, Decision, FailureClass, Job, JobApproval, JobState, Matrix, ParamValue, Retry, RetryOn,
};
use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

fn asking(approval: JobApproval) -> Job {
    Job {
        approval: Some(approval),
        ..job("ship", &["build"])
    }
}

fn by_release() -> JobApproval {
    JobApproval {
        groups: vec!["release".to_owned()],
        timeout: Some("2h".to_owned()),
        message: Some("Ship ${{ run.name }}?".to_owned()),
        ..JobApproval::default()
    }
}

/// A run whose job `ship` waits for people; `test` needs it, and `docs` does not.
fn waiting(ship: Job) -> World {
    let jobs = vec![
        job("build", &[]),
        ship,
        Job {
            timeout: Some("9h".to_owned()),
            ..job("test", &["ship"])
        },
        job("docs", &[]),
    ];
    let mut world = World::new(pipeline(jobs, vec![job("notify", &[])]));
    world.turn();
    world.run_job("build");
    world
}

fn answer(world: &mut World, decision: Decision, by: &str) {
    let name = format!("ship-{}", world.approvals.len());
    world.approvals.push(ApprovalFact {
        job: "ship".to_owned(),
        decision,
        by: by.to_owned(),
        at: world.now,
        comment: Some("as agreed".to_owned()),
        name,
    });
    world.turn();
}

#[test]
fn a_job_that_could_start_asks_once_and_others_go_on() {
    let mut world = waiting(asking(by_release()));
    assert_snapshot!(world.summary(), @r"
    build Succeeded Succeeded
    ship Pending AwaitingApproval: waits for the approval of the group `release` until 2027-01-15T10:00:00Z
    test Pending WaitingForNeeds
    docs Starting PodStarting
    notify Pending WaitingForJobs
    Succeeded=Unknown Running
    1 of 5 jobs done; job `ship`: waits for the approval of the group `release` until 2027-01-15T10:00:00Z
    ");
    assert!(world.job("docs").state == JobState::Starting);
    assert_eq!(
        world
            .places
            .iter()
            .filter(|place| place.job == "ship")
            .count(),
        0
    );
    let request = world.status().approvals[0].clone();
    assert_eq!(request.message.as_deref(), Some("Ship build-7?"));
    assert_eq!(
        request.until.0.duration_since(request.since.0).as_hours(),
        2
    );
    world.pass(60);
    world.run_job("docs");
    assert_eq!(world.status().approvals, [request], "it is asked once");
    let condition = &world.status().conditions[0];
    assert_eq!(condition.reason, "AwaitingApproval", "nothing else goes on");
    let asked = world
        .events
        .iter()
        .filter(|event| event.starts_with("ApprovalRequested"));
    assert_eq!(
        asked.collect::<Vec<_>>(),
        ["ApprovalRequested: job `ship` waits for approval: Ship build-7?"]
    );
}

#[test]
fn an_approved_job_starts_and_the_status_says_by_whom() {
    let mut world = waiting(asking(by_release()));
    world.pass(60);
    answer(&mut world, Decision::Approve, "ann");
    assert_eq!(world.job("ship").state, JobState::Starting);
    let request = &world.status().approvals[0];
    assert_eq!(request.decision, Some(Decision::Approve));
    assert_eq!(request.by.as_deref(), Some("ann"));
    assert_eq!(request.at.as_ref().map(|time| time.0), Some(world.now));
    assert_eq!(request.comment.as_deref(), Some("as agreed"));
    assert_eq!(request.approval.as_deref(), Some("ship-0"));
}

#[test]
fn the_first_answer_counts_and_a_later_one_changes_nothing() {
    let mut world = waiting(asking(by_release()));
    let at = world.now;
    let fact = |name: &str, seconds: i64, decision| ApprovalFact {
        job: "ship".to_owned(),
        decision,
        by: name.to_owned(),
        at: at + jiff::SignedDuration::from_secs(seconds),
        comment: None,
        name: name.to_owned(),
    };
    world.approvals = vec![
        fact("zoe", 8, Decision::Reject),
        fact("bert", 5, Decision::Approve),
        fact("ann", 5, Decision::Approve),
    ];
    world.pass(10);
    world.turn();
    assert_eq!(world.status().approvals[0].by.as_deref(), Some("ann"));
    world.approvals = vec![fact("early", 1, Decision::Reject)];
    world.turn();
    assert_eq!(world.status().approvals[0].by.as_deref(), Some("ann"));
    assert_eq!(world.job("ship").state, JobState::Starting);
}

#[test]
fn a_rejected_job_fails_is_not_retried_and_nothing_is_built_on_it() {
    let mut world = waiting(Job {
        continue_on_error: true,
        retry: Some(Retry {
            limit: 3,
            failures: vec![RetryOn::User, RetryOn::Timeout],
            ..Retry::default()
        }),
        ..asking(by_release())
    });
    world.run_job("docs");
    answer(&mut world, Decision::Reject, "bert");
    world.run_job("notify");
    assert_snapshot!(world.summary(), @r"
    build Succeeded Succeeded
    ship Failed Rejected User: rejected by bert: as agreed
    test Skipped NeedsNotSucceeded: it needs job `ship`, which failed
    docs Succeeded Succeeded
    notify Succeeded Succeeded
    Succeeded=False Failed
    3 of 5 jobs succeeded; job `ship` failed: rejected by bert: as agreed
    ");
    let ship = world.job("ship");
    assert_eq!((ship.attempt, ship.tolerated), (0, false));
    assert_eq!(verdict(world.status()), Verdict::Failed);
}

#[test]
fn a_job_that_nobody_approves_in_time_fails_and_the_answer_comes_too_late() {
    let mut world = waiting(asking(by_release()));
    world.run_job("docs");
    let recheck = world.plan().recheck.expect("it has a limit");
    assert_eq!(recheck.as_secs(), 2 * 60 * 60);
    world.pass(recheck.as_secs());
    world.turn();
    assert_eq!(
        world.job("ship").reason.as_deref(),
        Some("ApprovalTimedOut")
    );
    assert_eq!(world.job("ship").failure_class, Some(FailureClass::Timeout));
    assert_eq!(
        world.job("ship").message.as_deref(),
        Some("nobody approved it within 2h")
    );
    answer(&mut world, Decision::Approve, "ann");
    assert_eq!(world.job("ship").state, JobState::Failed);
    world.run_job("notify");
    assert_eq!(verdict(world.status()), Verdict::TimedOut);
    assert_eq!(world.status().approvals[0].decision, None);
}

#[test]
fn an_answer_in_time_counts_after_a_restart_too() {
    let mut world = waiting(asking(by_release()));
    world.pass(2 * 60 * 60 - 10);
    let in_time = world.now;
    world.pass(60);
    world.observing_since = world.now;
    world.turn();
    assert_eq!(
        world.job("ship").state,
        JobState::Pending,
        "answers are checked first"
    );
    world.approvals = vec![ApprovalFact {
        job: "ship".to_owned(),
        decision: Decision::Approve,
        by: "ann".to_owned(),
        at: in_time,
        comment: None,
        name: "ship-0".to_owned(),
    }];
    world.turn();
    assert_eq!(world.job("ship").state, JobState::Starting);
}

#[test]
fn cancelling_a_run_ends_the_wait() {
    let mut world = waiting(asking(by_release()));
    world.run.spec.cancel = true;
    world.turn();
    let ship = world.job("ship");
    assert_eq!(ship.state, JobState::Cancelled);
    assert_eq!(ship.failure_class, Some(FailureClass::Cancelled));
    answer(&mut world, Decision::Approve, "ann");
    assert_eq!(world.job("ship").state, JobState::Cancelled);
}

#[test]
fn a_suspended_run_asks_and_starts_nothing() {
    let mut world = World::new(pipeline(
        vec![job("build", &[]), asking(by_release())],
        vec![],
    ));
    world.turn();
    world.run.spec.suspend = true;
    world.run_job("build");
    assert_eq!(world.status().approvals.len(), 1);
    answer(&mut world, Decision::Approve, "ann");
    assert_eq!(world.job("ship").reason.as_deref(), Some("Suspended"));
    world.run.spec.suspend = false;
    world.turn();
    assert_eq!(world.job("ship").state, JobState::Starting);
}

#[test]
fn a_retried_job_does_not_ask_again() {
    let mut world = waiting(Job {
        retry: Some(Retry {
            limit: 1,
            failures: vec![RetryOn::User],
            ..Retry::default()
        }),
        ..asking(by_release())
    });
    answer(&mut world, Decision::Approve, "ann");
    world.approvals.clear();
    world.accept("ship");
    world.turn();
    world.fail("ship", 3);
    world.turn();
    assert_eq!(world.job("ship").reason.as_deref(), Some("WaitingForRetry"));
    world.pass(10);
    world.turn();
    let ship = world.job("ship");
    assert_eq!((ship.state, ship.attempt), (JobState::Starting, 2));
}

#[test]
fn a_matrix_asks_once_for_all_of_its_jobs() {
    let axis = Axis {
        name: "place".to_owned(),
        values: ["east", "west"]
            .map(|v| ParamValue::String(v.to_owned()))
            .to_vec(),
        from: None,
    };
    let mut world = waiting(Job {
        matrix: Some(Matrix {
            axes: vec![axis],
            ..Matrix::default()
        }),
        ..asking(by_release())
    });
    assert_eq!(world.status().approvals.len(), 1);
    let state = |world: &World, name: &str| world.job(name).state;
    for name in ["ship.east", "ship.west"] {
        assert_eq!(world.job(name).reason.as_deref(), Some("AwaitingApproval"));
    }
    answer(&mut world, Decision::Approve, "ann");
    for name in ["ship.east", "ship.west"] {
        assert_eq!(state(&world, name), JobState::Starting);
    }
}

#[test]
fn a_skipped_job_asks_nobody() {
    let world = waiting(Job {
        when: Some("run.name == 'other'".to_owned()),
        ..asking(by_release())
    });
    assert_eq!(world.job("ship").state, JobState::Skipped);
    assert_eq!(world.status().approvals, []);
}

#[test]
fn a_waiting_job_holds_no_place_of_its_runner() {
    let mut world = waiting(Job {
        runner: Some("pool".to_owned()),
        ..asking(by_release())
    });
    world.pools = vec![PoolFact {
        name: "pool".to_owned(),
        spec: Some(crds::RunnerSpec::default()),
        free: Some(1),
    }];
    let waiting = world.run.clone();
    let pool = crds::Runner::new(
        "pool",
        crds::RunnerSpec {
            max: Some(1),
            ..crds::RunnerSpec::default()
        },
    );
    let mut pool = pool;
    pool.metadata.namespace = Some("team".to_owned());
    assert_eq!(crate::pool::free(&pool, &[&waiting]), Some(1));
    answer(&mut world, Decision::Approve, "ann");
    assert_eq!(crate::pool::free(&pool, &[&world.run]), Some(0));
}

#[test]
fn a_run_without_a_limit_of_its_own_gets_the_time_of_its_approvals_on_top() {
    let mut world = waiting(asking(JobApproval {
        timeout: Some("3d".to_owned()),
        ..JobApproval::default()
    }));
    world.run_job("docs");
    world.pass(3 * 24 * 60 * 60 - 1);
    answer(&mut world, Decision::Approve, "ann");
    assert_eq!(world.job("ship").state, JobState::Starting);
    world.run_job("ship");
    world.accept("test");
    world.turn();
    assert_eq!(world.job("test").state, JobState::Running);
    world.pass(6 * 60 * 60 + 1);
    world.turn();
    assert_eq!(world.job("test").reason.as_deref(), Some("Stopping"));
}

#[test]
fn a_run_that_waits_holds_its_group_and_gives_way_where_the_policy_says_so() {
    use crds::{Concurrency, ConcurrencyPolicy};
    let in_group = |policy| {
        let ship = Job {
            needs: Vec::new(),
            ..asking(by_release())
        };
        let mut spec = pipeline(vec![ship], vec![]);
        spec.concurrency = Some(Concurrency {
            group: "deploy".to_owned(),
            policy,
            ..Concurrency::default()
        });
        World::new(spec)
    };
    let mut old = in_group(ConcurrencyPolicy::Queue);
    old.turn();
    let holder = Rival::of(&old.run).expect("it is in the group");
    assert!(holder.holds, "what was asked for is not overtaken");
    for (policy, state) in [
        (ConcurrencyPolicy::Queue, JobState::Pending),
        (ConcurrencyPolicy::CancelInProgress, JobState::Cancelled),
    ] {
        let mut new = in_group(policy);
        new.run.metadata.name = Some("build-8".to_owned());
        new.rivals = vec![holder.clone()];
        new.turn();
        let condition = &new.status().conditions[0];
        assert_eq!(condition.reason, "Queued", "{policy:?}");
        old.rivals = vec![Rival::of(&new.run).expect("it waits in the group")];
        old.turn();
        assert_eq!(old.job("ship").state, state, "{policy:?}");
    }
}

#[test]
fn a_job_that_is_used_from_elsewhere_brings_its_approval_along() {
    let parsed = |text: &str| serde_yaml::from_str::<crds::PipelineSpec>(text).unwrap();
    let shared = r#"
params: [{name: place}]
jobs:
- name: deliver
  image: oak
  approval: {groups: [release], message: "Deliver to ${{ params.place }}?"}
  steps: [{name: main, run: "true"}]
"#;
    let user = r#"
params: [{name: town, default: Ulm}]
jobs:
- name: ship
  uses: {pipeline: shared, job: deliver}
  with: [{name: place, value: "${{ params.town }}"}]
"#;
    let mut world = World::new(parsed(user));
    world.others.push(("shared".to_owned(), parsed(shared)));
    world.turn();
    let request = world.status().approvals[0].clone();
    assert_eq!(request.job, "ship");
    assert_eq!(request.message.as_deref(), Some("Deliver to Ulm?"));
    assert_eq!(request.groups, ["release"]);
    answer(&mut world, Decision::Approve, "ann");
    assert_eq!(world.job("ship").state, JobState::Starting);
}

#[test]
fn a_finally_job_cannot_wait_by_way_of_a_job_that_it_uses() {
    let mut world = World::new(pipeline(
        vec![job("build", &[])],
        vec![Job {
            name: "tidy".to_owned(),
            uses: Some(crds::JobUse {
                pipeline: "shared".to_owned(),
                job: "ship".to_owned(),
            }),
            ..Job::default()
        }],
    ));
    let shared = Job {
        needs: Vec::new(),
        ..asking(JobApproval::default())
    };
    let shared = pipeline(vec![shared], vec![]);
    world.others.push(("shared".to_owned(), shared));
    world.turn();
    let condition = &world.status().conditions[0];
    assert_eq!(condition.reason, "InvalidPipeline");
    let words = "spec.pipelineSpec.finally[0].uses: a finally job does not wait for approval";
    assert!(condition.message.contains(words), "{}", condition.message);
}
