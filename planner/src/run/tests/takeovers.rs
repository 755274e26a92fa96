//! Runs that retry an ended run: what they take over, what runs again, and what is refused.
//! Must not retry attempts of a job: that is another module.

use crds::{Axis, JobState, Matrix, NamedValue, ParamValue, PipelineRun, RetryOf, RunSource};
use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

fn retry(change: impl FnOnce(&mut RetryOf)) -> RetryOf {
    let mut retry = RetryOf {
        run: "build-7".to_owned(),
        ..RetryOf::default()
    };
    change(&mut retry);
    retry
}

/// A new run of the same spec, that retries the one of a world.
fn again(ended: &World, change: impl FnOnce(&mut RetryOf)) -> World {
    let mut run = PipelineRun::new("build-8", ended.run.spec.clone());
    run.spec.retry_of = Some(retry(change));
    run.metadata.namespace = ended.run.metadata.namespace.clone();
    run.metadata.uid = Some("uid-2".to_owned());
    let mut world = World::new(crds::PipelineSpec::default());
    world.now = ended.now;
    world.retried = Some(ended.run.clone());
    world.run = run;
    world
}

/// test -> pack -> ship and docs; pack fails.
fn failed() -> World {
    let mut jobs = vec![
        job("test", &[]),
        job("pack", &["test"]),
        job("ship", &["pack"]),
        job("docs", &[]),
    ];
    jobs[0].outputs = vec![crds::JobOutput {
        name: "version".to_owned(),
        value: "v1".to_owned(),
    }];
    jobs[1].env = vec![crds::EnvVar {
        name: "VERSION".to_owned(),
        value: Some("${{ jobs.test.outputs.version }}".to_owned()),
        value_from: None,
    }];
    let mut world = World::new(pipeline(jobs, vec![job("notify", &[])]));
    world.turn();
    world.run_job("test");
    world.run_job("docs");
    world.accept("pack");
    world.turn();
    world.fail("pack", 2);
    world.turn();
    world.run_job("notify");
    assert_eq!(verdict(world.status()), Verdict::Failed);
    world
}

#[test]
fn failed_jobs_run_again_with_the_outputs_of_those_that_succeeded() {
    let mut world = again(&failed(), |retry| retry.failed = true);
    let plan = world.turn();
    assert_snapshot!(world.summary(), @r"
    test Succeeded Succeeded: taken over from the run `build-7`
    pack Starting PodStarting
    ship Pending WaitingForNeeds
    docs Succeeded Succeeded: taken over from the run `build-7`
    notify Pending WaitingForJobs
    Succeeded=Unknown Running
    2 of 5 jobs done
    ");
    let offers = plan.steps.iter().filter_map(|step| match step {
        Action::Offer(offer) => Some(offer),
        _ => None,
    });
    let env: Vec<_> = offers.flat_map(|offer| &offer.steps[0].env).collect();
    let version = EnvValue::Literal("v1".to_owned());
    assert!(
        env.iter()
            .any(|e| e.name == "VERSION" && e.value == version)
    );
    let test = world.job("test");
    let origin = test.from_run.as_ref().expect("it was taken over");
    assert_eq!(
        (origin.name.as_str(), origin.uid.as_str()),
        ("build-7", "uid-1")
    );
    assert_eq!((test.attempt, &test.pod), (1, &None));
    assert_eq!(test.outputs[0].value, "v1");
    // It is the run's own now: the ended run may be pruned.
    world.retried = None;
    world.run_job("pack");
    world.run_job("ship");
    world.run_job("notify");
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
    assert_snapshot!(world.events.join("\n"), @r"
    Started: pipeline `build-8` started: 5 jobs, 2 taken over from `build-7`
    Succeeded: 5 jobs succeeded
    ");
}

#[test]
fn from_a_job_on_it_and_what_needs_it_run_again_and_so_does_what_failed() {
    let mut world = again(&failed(), |retry| retry.from_job = Some("docs".to_owned()));
    world.turn();
    let states = ["test", "pack", "ship", "docs"].map(|name| world.job(name).state);
    let (starting, pending) = (JobState::Starting, JobState::Pending);
    assert_eq!(states, [JobState::Succeeded, starting, pending, starting]);
    let mut world = again(&failed(), |retry| retry.from_job = Some("test".to_owned()));
    world.turn();
    let states = ["test", "pack", "ship", "docs"].map(|name| world.job(name).state);
    assert_eq!(states, [starting, pending, pending, JobState::Succeeded]);
}

#[test]
fn without_a_choice_every_job_runs_again() {
    let mut world = again(&failed(), |_| {});
    world.turn();
    assert!(world.status().jobs.iter().all(|job| job.from_run.is_none()));
    assert_eq!(world.job("test").state, JobState::Starting);
    assert_eq!(
        world.events,
        ["Started: pipeline `build-8` started: 5 jobs"]
    );
}

#[test]
fn a_job_taken_over_twice_names_the_run_in_which_it_ran() {
    let mut second = again(&failed(), |retry| retry.failed = true);
    second.turn();
    second.accept("pack");
    second.turn();
    second.fail("pack", 2);
    second.turn();
    second.run_job("notify");
    let mut third = again(&second, |retry| {
        retry.run = "build-8".to_owned();
        retry.failed = true;
    });
    third.turn();
    let test = third.job("test");
    assert_eq!(test.from_run.as_ref().unwrap().name, "build-7");
    let message = "taken over from the run `build-7`";
    assert_eq!(test.message.as_deref(), Some(message));
}

#[test]
fn of_a_matrix_only_the_jobs_that_failed_run_again_and_then_what_needs_them() {
    let axis = Axis {
        name: "n".to_owned(),
        values: (1..=2).map(ParamValue::Integer).collect(),
        from: None,
    };
    let mut jobs = vec![job("test", &[]), job("pack", &["test"])];
    jobs[0].matrix = Some(Matrix {
        axes: vec![axis],
        fail_fast: Some(false),
        ..Matrix::default()
    });
    let mut world = World::new(pipeline(jobs, vec![]));
    world.turn();
    world.run_job("test.1");
    world.accept("test.2");
    world.turn();
    world.fail("test.2", 1);
    world.turn();
    let mut world = again(&world, |retry| retry.failed = true);
    world.turn();
    assert_snapshot!(world.summary(), @r"
    test.1 Succeeded Succeeded: taken over from the run `build-7`
    test.2 Starting PodStarting
    pack Pending WaitingForNeeds
    Succeeded=Unknown Running
    1 of 3 jobs done
    ");
    assert_eq!(world.job("test.2").matrix[0].value, ParamValue::Integer(2));
    world.run_job("test.2");
    world.run_job("pack");
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
}

#[test]
fn a_skipped_job_stays_skipped_and_a_forced_retry_looks_again() {
    let mut jobs = vec![job("test", &[]), job("ship", &[]), job("after", &["ship"])];
    jobs[1].when = Some("source.branch == 'main'".to_owned());
    jobs[2].when = Some("always()".to_owned());
    let mut world = World::new(pipeline(jobs, vec![]));
    world.turn();
    world.run_job("after");
    world.accept("test");
    world.turn();
    world.fail("test", 1);
    world.turn();
    let mut same = again(&world, |retry| retry.failed = true);
    same.turn();
    assert_eq!(same.job("after").state, JobState::Succeeded);
    let mut forced = again(&world, |retry| (retry.failed, retry.force) = (true, true));
    forced.run.spec.source = Some(RunSource {
        branch: Some("main".to_owned()),
        ..RunSource::default()
    });
    forced.turn();
    assert_eq!(forced.job("ship").state, JobState::Starting);
    assert_eq!(forced.job("after").state, JobState::Pending);
}

#[test]
fn a_forced_retry_runs_again_what_is_written_differently_now() {
    let mut world = again(&failed(), |retry| {
        (retry.failed, retry.force) = (true, true)
    });
    let spec = world.run.spec.pipeline_spec.as_mut().unwrap();
    spec.jobs[3].steps[0].run = "make docs".to_owned();
    world.turn();
    assert_eq!(world.job("test").state, JobState::Succeeded);
    assert_eq!(world.job("docs").state, JobState::Starting);
}

#[test]
fn a_job_of_a_template_is_taken_over_unless_the_template_is_written_differently_now() {
    let mut jobs = vec![job("test", &[]), job("pack", &["test"])];
    let uses = serde_json::json!({"name": "all", "uses": {"template": "unit"}});
    jobs[0].steps = vec![serde_json::from_value(uses).unwrap()];
    let mut spec = pipeline(jobs, vec![]);
    let step = serde_json::json!({"name": "main", "run": "true"});
    let template = serde_json::json!({"name": "unit", "steps": [step]});
    spec.step_templates = vec![serde_json::from_value(template).unwrap()];
    let mut world = World::new(spec);
    world.turn();
    world.run_job("test");
    world.accept("pack");
    world.turn();
    world.fail("pack", 1);
    world.turn();
    let mut same = again(&world, |retry| retry.failed = true);
    same.turn();
    assert_eq!(same.job("test").state, JobState::Succeeded);
    let mut other = again(&world, |retry| (retry.failed, retry.force) = (true, true));
    let spec = other.run.spec.pipeline_spec.as_mut().unwrap();
    spec.step_templates[0].steps[0].run = "false".to_owned();
    other.turn();
    assert_eq!(other.job("test").state, JobState::Starting);
}

/// The message with which a run is refused.
fn refusal(world: &mut World) -> String {
    let plan = world.turn();
    assert_eq!(plan.steps, [], "a refused run starts nothing");
    let condition = crate::run::conditions::find(world.status(), "Succeeded").unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("False", "RetryRefused")
    );
    assert!(world.status().completion_time.is_some());
    condition.message.clone()
}

#[test]
fn a_retry_of_a_run_that_is_gone_or_goes_on_is_refused() {
    let mut world = again(&failed(), |retry| retry.failed = true);
    world.retried = None;
    assert_eq!(
        refusal(&mut world),
        "there is no run `build-7` in the namespace, it may have been pruned: start \
         a run without retryOf"
    );
    let mut world = again(&single(), |_| {});
    assert_eq!(
        refusal(&mut world),
        "the run `build-7` still goes on: wait for its end, or cancel it first"
    );
}

#[test]
fn a_retry_with_nothing_to_run_again_or_of_no_job_of_the_pipeline_is_refused() {
    let mut ended = single();
    ended.run_job("build");
    assert_eq!(
        refusal(&mut again(&ended, |retry| retry.failed = true)),
        "every job of the run `build-7` succeeded: leave out failed to run all again"
    );
    let from = |job: &str| again(&failed(), |retry| retry.from_job = Some(job.to_owned()));
    assert_eq!(
        refusal(&mut from("pak")),
        "fromJob: the pipeline has no job `pak`: did you mean `pack`?"
    );
    assert_eq!(
        refusal(&mut from("notify")),
        "fromJob: `notify` is a finally job, which runs again in any case: set \
         failed instead"
    );
}

#[test]
fn a_retry_of_something_else_is_refused_with_the_first_field_unless_forced() {
    type Change = fn(&mut PipelineRun);
    let param = |name: &str, value: i64| NamedValue {
        name: name.to_owned(),
        value: ParamValue::Integer(value),
    };
    let mut jobs = vec![job("test", &[])];
    jobs[0].when = Some("params.depth < 9".to_owned());
    let mut spec = pipeline(jobs, vec![]);
    spec.params = vec![crds::Param {
        name: "depth".to_owned(),
        param_type: crds::ParamType::Integer,
        default: Some(ParamValue::Integer(3)),
        ..crds::Param::default()
    }];
    let mut ended = World::new(spec);
    ended.run.spec.params = vec![param("depth", 4)];
    ended.turn();
    ended.run_job("test");
    let cases: [(Change, Option<&str>); 7] = [
        (|_| {}, None),
        (
            |run| run.spec.params[0].value = ParamValue::Integer(5),
            Some("params.depth"),
        ),
        (|run| run.spec.params.clear(), Some("params.depth")),
        (
            |run| run.spec.source = Some(RunSource::default()),
            Some("source"),
        ),
        (
            |run| {
                run.spec.pipeline_spec.as_mut().unwrap().jobs[0].steps[0]
                    .run
                    .push('!')
            },
            Some("pipeline.spec.jobs[0].steps[0].run"),
        ),
        (
            |run| {
                run.spec.env = vec![crds::EnvVar {
                    name: "LEVEL".to_owned(),
                    value: Some("9".to_owned()),
                    value_from: None,
                }]
            },
            Some("env[0]"),
        ),
        (
            |run| {
                let spec = run.spec.pipeline_spec.as_mut().unwrap();
                spec.retention = Some(crds::Retention::default());
            },
            None,
        ),
    ];
    for (change, field) in cases {
        let mut world = again(&ended, |_| {});
        change(&mut world.run);
        match field {
            None => {
                world.turn();
                assert_eq!(world.job("test").state, JobState::Starting);
            }
            Some(field) => {
                let message = refusal(&mut world);
                assert!(
                    message.starts_with(&format!("`{field}` is not")),
                    "{message}"
                );
            }
        }
        let mut forced = again(&ended, |retry| retry.force = true);
        change(&mut forced.run);
        forced.turn();
        assert_eq!(forced.job("test").state, JobState::Starting, "{field:?}");
    }
}

#[test]
fn a_retry_that_waits_in_its_group_has_its_jobs_already() {
    let mut ended = failed();
    let group = crds::Concurrency {
        group: "deploy".to_owned(),
        ..crds::Concurrency::default()
    };
    // The world has no rivals at first, so the group does not hold the first run up.
    ended.run.spec.pipeline_spec.as_mut().unwrap().concurrency = Some(group.clone());
    let snapshot = ended
        .run
        .status
        .as_mut()
        .unwrap()
        .pipeline
        .as_mut()
        .unwrap();
    snapshot.spec.concurrency = Some(group);
    let mut world = again(&ended, |retry| retry.failed = true);
    world.rivals = vec![Rival {
        name: "other".to_owned(),
        created: world.now,
        concurrency: crds::ConcurrencyStatus {
            group: "deploy".to_owned(),
            ..crds::ConcurrencyStatus::default()
        },
        holds: true,
    }];
    world.turn();
    assert_eq!(world.job("test").state, JobState::Succeeded);
    world.retried = None;
    world.rivals.clear();
    world.turn();
    assert_eq!(world.job("pack").state, JobState::Starting);
}
