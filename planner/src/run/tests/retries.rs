//! Failed jobs that are tried again.
//! Must not test which failure is which: that is the part of `troubles`.

use crds::{Backoff, FailureClass, Job, JobState, RaiseMemory, Retry, RetryOn};
use insta::assert_snapshot;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::world::*;
use crate::run::*;

fn with_retry(retry: Retry) -> World {
    let job = Job {
        retry: Some(retry),
        ..job("build", &[])
    };
    let mut world = World::new(pipeline(vec![job], vec![job_of("notify")]));
    world.turn();
    world
}

fn job_of(name: &str) -> Job {
    job(name, &[])
}

fn gone(world: &mut World) {
    let (reason, message) = ("Evicted".to_owned(), String::new());
    world.set_place("build", PlacePhase::Gone { reason, message });
    world.turn();
}

fn retry(limit: u32, on: &[RetryOn]) -> Retry {
    Retry {
        limit,
        failures: on.to_vec(),
        ..Retry::default()
    }
}

#[test]
fn an_evicted_job_is_tried_again_after_a_pause() {
    let mut world = with_retry(retry(2, &[]));
    world.accept("build");
    world.turn();
    gone(&mut world);
    assert_snapshot!(world.summary(), @r"
    build Pending WaitingForRetry: attempt 1 of 3 failed: its pod was evicted
    notify Pending WaitingForJobs
    Succeeded=Unknown Running
    0 of 2 jobs done; job `build`: attempt 1 of 3 failed: its pod was evicted
    ");
    assert_eq!(world.plan().recheck.map(|wait| wait.as_secs()), Some(5));
    let before = world.job("build").clone();
    assert_eq!(
        (before.attempt, before.fence, before.attempts.len()),
        (1, 1, 1)
    );
    world.pass(5);
    let plan = world.turn();
    assert!(
        matches!(plan.steps[0], Action::CreatePlace(_)),
        "{:?}",
        plan.steps
    );
    let after = world.job("build").clone();
    assert_eq!((after.attempt, after.fence), (2, 2));
    assert_ne!(before.pod, after.pod);
    world.run_job("build");
    world.run_job("notify");
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
    assert_eq!(
        world.job("build").attempts[0].failure_class,
        Some(FailureClass::Evicted)
    );
}

#[test]
fn the_pauses_grow_and_the_last_failure_counts() {
    let mut world = with_retry(Retry {
        backoff: Some(Backoff {
            base: Some("10s".to_owned()),
            factor: Some(3),
            cap: Some("60s".to_owned()),
        }),
        ..retry(3, &[])
    });
    for wait in [10, 30, 60] {
        world.accept("build");
        world.turn();
        gone(&mut world);
        assert_eq!(world.plan().recheck.map(|wait| wait.as_secs()), Some(wait));
        world.pass(wait);
        world.turn();
    }
    world.accept("build");
    world.turn();
    gone(&mut world);
    assert_snapshot!(world.summary(), @r"
    build Failed Evicted Evicted: its pod was evicted
    notify Starting PodStarting
    Succeeded=Unknown Running
    1 of 2 jobs done; job `build` failed: its pod was evicted
    ");
    assert_eq!(world.job("build").attempts.len(), 3);
}

#[test]
fn a_step_that_fails_is_tried_again_only_where_it_is_named() {
    let mut world = with_retry(retry(2, &[]));
    world.accept("build");
    world.fail("build", 3);
    world.turn();
    assert_eq!(world.job("build").state, JobState::Failed);

    let mut world = with_retry(retry(2, &[RetryOn::User]));
    world.accept("build");
    world.fail("build", 3);
    let plan = world.turn();
    let key = match plan.steps.as_slice() {
        [Action::Acknowledge { key }] => key.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((key.attempt, key.fence), (1, 1));
    assert_eq!(world.job("build").state, JobState::Pending);
    world.pass(5);
    world.turn();
    world.run_job("build");
    assert_eq!(world.job("build").state, JobState::Succeeded);
}

#[test]
fn no_attempt_starts_while_the_place_of_the_one_before_is_there() {
    let mut world = with_retry(retry(1, &[RetryOn::User]));
    world.accept("build");
    world.fail("build", 3);
    let plan = world.plan();
    world.before_report(&plan);
    world.run.status = Some(plan.status);
    world.pass(20);
    let plan = world.turn();
    assert!(
        !plan
            .steps
            .iter()
            .any(|step| matches!(step, Action::CreatePlace(_)))
    );
    assert_eq!(world.job("build").attempt, 1);
    world.turn();
    assert_eq!(
        world.job("build").attempt,
        2,
        "its agent has its answer and ends"
    );
}

#[test]
fn a_cancelled_run_tries_nothing_again() {
    let mut world = with_retry(retry(2, &[RetryOn::User]));
    world.accept("build");
    world.fail("build", 3);
    world.turn();
    world.run.spec.cancel = true;
    world.turn();
    let build = world.job("build");
    assert_eq!((build.state, build.attempt), (JobState::Cancelled, 1));
    assert!(build.retry_time.is_none() && build.end_time.is_some());
}

#[test]
fn a_job_that_was_out_of_memory_gets_more_until_the_cap() {
    let raise = RaiseMemory {
        factor: Some(2),
        cap: "700Mi".to_owned(),
    };
    let mut build = job("build", &[]);
    build.retry = Some(Retry {
        on_out_of_memory: Some(raise),
        ..retry(5, &[])
    });
    let memory = |text: &str| [("memory".to_owned(), Quantity(text.to_owned()))].into();
    build.pod = Some(crds::PodOptions {
        resources: Some(k8s_openapi::api::core::v1::ResourceRequirements {
            limits: Some(memory("256Mi")),
            requests: Some(memory("100M")),
            ..Default::default()
        }),
        ..crds::PodOptions::default()
    });
    let mut world = World::new(pipeline(vec![build], vec![]));
    let mut seen = Vec::new();
    for _ in 0..4 {
        let plan = world.turn();
        for action in &plan.steps {
            if let Action::CreatePlace(place) = action {
                let resources = place.pod.resources.clone().unwrap();
                let amount = |list: Option<std::collections::BTreeMap<String, Quantity>>| {
                    list.unwrap()["memory"].0.clone()
                };
                seen.push((amount(resources.limits), amount(resources.requests)));
            }
        }
        if world.job("build").state == JobState::Failed {
            break;
        }
        world.set_place("build", ended(137, "OOMKilled"));
        world.turn();
        world.pass(60);
    }
    let seen: Vec<_> = seen
        .iter()
        .map(|(limit, request)| format!("{limit} {request}"))
        .collect();
    assert_eq!(seen, ["256Mi 100M", "512Mi 200000000", "700Mi 400000000"]);
    assert_snapshot!(world.summary(), @r"
    build Failed OutOfMemory OutOfMemory: its container used more memory than it may
    Succeeded=False Failed
    0 of 1 job succeeded; job `build` failed: its container used more memory than it may
    ");
}
