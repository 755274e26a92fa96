//! Conditions of jobs and steps, and failures that a run lives with.
//! Must not test single expressions: those are tested beside them.

use crds::{Job, RunSource, Step};
use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

fn when(job: Job, condition: &str) -> Job {
    Job {
        when: Some(condition.to_owned()),
        ..job
    }
}

fn fail(world: &mut World, job: &str) {
    world.accept(job);
    world.fail(job, 3);
    world.turn();
}

#[test]
fn a_job_whose_condition_is_false_is_skipped_and_the_run_succeeds() {
    let jobs = vec![
        job("test", &[]),
        when(job("ship", &["test"]), "source.branch == 'main'"),
        job("tell", &["ship"]),
    ];
    let mut world = World::new(pipeline(jobs, vec![]));
    world.run.spec.source = Some(RunSource {
        branch: Some("fix".to_owned()),
        ..RunSource::default()
    });
    world.turn();
    world.run_job("test");
    assert_snapshot!(world.summary(), @r"
    test Succeeded Succeeded
    ship Skipped WhenFalse: its `when` is false: source.branch == 'main'
    tell Skipped NeedsNotSucceeded: it needs job `ship`, which was skipped
    Succeeded=True Succeeded
    1 job succeeded, 2 skipped
    ");
}

#[test]
fn what_runs_after_a_failure_is_what_asks_for_it() {
    let jobs = vec![
        job("test", &[]),
        when(job("undo", &["test"]), "failure()"),
        when(job("plain", &["test"]), "params.size() == 0"),
        when(job("look", &["test"]), "jobs.test.result == 'Failed'"),
        when(job("good", &["test"]), "success()"),
    ];
    let finally = vec![
        when(job("red", &[]), "failure()"),
        when(job("green", &[]), "success()"),
        when(job("stopped", &[]), "cancelled()"),
    ];
    let mut world = World::new(pipeline(jobs, finally));
    world.turn();
    fail(&mut world, "test");
    world.run_job("undo");
    world.run_job("look");
    assert_snapshot!(world.summary(), @r"
    test Failed StepFailed User: step `main` exited with code 3
    undo Succeeded Succeeded
    plain Skipped NeedsNotSucceeded: it needs job `test`, which failed
    look Succeeded Succeeded
    good Skipped WhenFalse: its `when` is false: success()
    red Starting PodStarting
    green Skipped WhenFalse: its `when` is false: success()
    stopped Skipped WhenFalse: its `when` is false: cancelled()
    Succeeded=Unknown Running
    7 of 8 jobs done; job `test` failed: step `main` exited with code 3
    ");
}

#[test]
fn a_condition_waits_for_every_need() {
    let jobs = vec![
        job("a", &[]),
        job("b", &[]),
        when(job("c", &["a", "b"]), "always()"),
    ];
    let mut world = World::new(pipeline(jobs, vec![]));
    world.turn();
    fail(&mut world, "a");
    assert_eq!(world.job("c").reason.as_deref(), Some("WaitingForNeeds"));
    world.run_job("b");
    assert_eq!(world.job("c").state, crds::JobState::Starting);
}

#[test]
fn a_failure_that_is_allowed_stops_nobody() {
    let mut flaky = job("flaky", &[]);
    flaky.continue_on_error = true;
    let jobs = vec![flaky, job("next", &["flaky"])];
    let mut world = World::new(pipeline(jobs, vec![when(job("red", &[]), "failure()")]));
    world.turn();
    fail(&mut world, "flaky");
    world.run_job("next");
    assert_snapshot!(world.summary(), @r"
    flaky Failed StepFailed User: step `main` exited with code 3
    next Succeeded Succeeded
    red Skipped WhenFalse: its `when` is false: failure()
    Succeeded=True Succeeded
    1 job succeeded, 1 skipped, 1 failed, which is allowed
    ");
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
}

#[test]
fn a_cancelled_run_tells_its_finally_jobs() {
    let finally = vec![when(job("stopped", &[]), "cancelled()")];
    let mut world = World::new(pipeline(vec![job("a", &[])], finally));
    world.turn();
    world.run.spec.cancel = true;
    world.turn();
    assert_eq!(world.job("stopped").state, crds::JobState::Starting);
}

#[test]
fn a_condition_that_cannot_be_evaluated_fails_its_job() {
    let job = when(job("a", &[]), "fromJson('{}').x == 1");
    let mut world = World::new(pipeline(vec![job], vec![]));
    world.turn();
    assert_snapshot!(world.summary(), @r"
    a Failed ExpressionFailed Configuration: `when`: `fromJson('{}').x == 1` can't be evaluated: there is no `x`
    Succeeded=False Failed
    0 of 1 job succeeded; job `a` failed: `when`: `fromJson('{}').x == 1` can't be evaluated: there is no `x`
    ");
}

#[test]
fn a_step_is_offered_with_what_its_condition_means() {
    let conditions = [
        None,
        Some("always()"),
        Some("failure()"),
        Some("cancelled() || failure()"),
        Some("params.size() == 1"),
        Some("params.size() == 0"),
        Some("params.size() == 1 || !success()"),
    ];
    let steps = conditions.iter().enumerate().map(|(i, when)| Step {
        name: format!("s{i}"),
        run: "true".to_owned(),
        when: when.map(str::to_owned),
        ..Step::default()
    });
    let job = Job {
        steps: steps.collect(),
        ..job("build", &[])
    };
    let mut world = World::new(pipeline(vec![job], vec![]));
    let plan = world.turn();
    let offer = plan.steps.iter().find_map(|action| match action {
        Action::Offer(offer) => Some(offer),
        _ => None,
    });
    let flags = offer.unwrap().steps.iter().map(|step| {
        let StepRuns {
            after_success,
            after_failure,
            after_cancel,
        } = step.runs;
        [after_success, after_failure, after_cancel]
    });
    let (t, f) = (true, false);
    assert_eq!(
        flags.collect::<Vec<_>>(),
        [
            [t, f, f],
            [t, t, t],
            [f, t, f],
            [f, t, t],
            [f, f, f],
            [t, f, f],
            [f, t, t],
        ]
    );
}

#[test]
fn a_step_that_may_fail_is_not_named_as_the_culprit() {
    let step = |name: &str, continue_on_error| Step {
        name: name.to_owned(),
        run: "true".to_owned(),
        continue_on_error,
        ..Step::default()
    };
    let job = Job {
        steps: vec![step("flaky", true), step("strict", false)],
        ..job("build", &[])
    };
    let mut world = World::new(pipeline(vec![job], vec![]));
    world.turn();
    world.accept("build");
    world.fail("build", 4);
    let fact = world.agents[0].steps[0].clone();
    world.agents[0].steps.push(fact);
    world.turn();
    let message = world.job("build").message.clone().unwrap();
    assert_eq!(message, "step `strict` exited with code 4");
}

#[test]
fn expressions_choose_image_directory_and_node() {
    let mut build = job("build", &[]);
    build.image = Some("rust:${{ source.tag }}".to_owned());
    build.working_dir = Some("${{ run.name }}/x".to_owned());
    build.steps[0].working_dir = Some("${{ pipeline.name }}".to_owned());
    build.pod = Some(crds::PodOptions {
        node_selector: [("zone".to_owned(), "z${{ source.pullRequest }}".to_owned())].into(),
        ..crds::PodOptions::default()
    });
    let mut world = World::new(pipeline(vec![build], vec![]));
    world.run.spec.source = Some(RunSource {
        tag: Some("1.95".to_owned()),
        pull_request: Some(4),
        ..RunSource::default()
    });
    let plan = world.turn();
    let [Action::CreatePlace(place), Action::Offer(offer)] = plan.steps.as_slice() else {
        panic!("{:?}", plan.steps)
    };
    assert_eq!(place.image, "rust:1.95");
    assert_eq!(place.pod.node_selector["zone"], "z4");
    assert_eq!(
        (&*offer.workdir, &*offer.steps[0].workdir),
        ("build-7/x", "build-7")
    );
    let tag = offer
        .base_env
        .iter()
        .find(|entry| entry.name == "RUSTCI_TAG");
    assert_eq!(
        tag.map(|entry| &entry.value),
        Some(&EnvValue::Literal("1.95".to_owned()))
    );
}
