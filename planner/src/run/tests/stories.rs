//! What happens in the main stories, with the words that users read.
//! Must not look inside the planner: only at plans.

use crds::{EnvVar, JobOutput, JobState, PipelineRef};
use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

#[test]
fn a_quick_run_of_one_step_needs_two_status_writes_and_two_events() {
    let mut world = World::new(pipeline(vec![job("build", &[])], vec![]));
    let first = world.turn();
    let kinds: Vec<_> = first.steps.iter().map(|step| format!("{step:?}")).collect();
    assert!(kinds[0].starts_with("CreatePlace") && kinds[1].starts_with("Offer"));
    for phase in [
        PlacePhase::Pending {
            since: world.now,
            scheduled: None,
            message: String::new(),
        },
        PlacePhase::Running { since: world.now },
    ] {
        world.set_place("build", phase);
        world.turn();
    }
    world.run_job("build");
    world.turn();
    assert_eq!(world.writes, 2);
    assert_snapshot!(world.events.join("\n"), @r"
    Started: pipeline `build-7` started: 1 job
    Succeeded: 1 job succeeded
    ");
    assert_snapshot!(world.summary(), @r"
    build Succeeded Succeeded
    Succeeded=True Succeeded
    1 job succeeded
    ");
    assert_eq!(world.plan().steps, [], "nothing is left to do");
    assert_eq!(world.plan().recheck, None);
}

#[test]
fn a_diamond_runs_its_middle_at_once() {
    let jobs = vec![
        job("a", &[]),
        job("b", &["a"]),
        job("c", &["a"]),
        job("d", &["b", "c"]),
    ];
    let mut world = World::new(pipeline(jobs, vec![]));
    world.turn();
    world.run_job("a");
    assert_snapshot!(world.summary(), @r"
    a Succeeded Succeeded
    b Starting PodStarting
    c Starting PodStarting
    d Pending WaitingForNeeds
    Succeeded=Unknown Running
    1 of 4 jobs done
    ");
    world.run_job("b");
    assert_eq!(world.job("d").state, JobState::Pending);
    world.run_job("c");
    world.run_job("d");
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
}

#[test]
fn a_failing_step_skips_what_needs_it_and_finally_runs() {
    let jobs = vec![
        job("test", &[]),
        job("pack", &["test"]),
        job("ship", &["pack"]),
    ];
    let mut world = World::new(pipeline(jobs, vec![job("notify", &[])]));
    world.turn();
    world.accept("test");
    world.turn();
    world.fail("test", 3);
    world.turn();
    assert_snapshot!(world.summary(), @r"
    test Failed StepFailed User: step `main` exited with code 3
    pack Skipped NeedsNotSucceeded: it needs job `test`, which failed
    ship Skipped NeedsNotSucceeded: it needs job `pack`, which was skipped
    notify Starting PodStarting
    Succeeded=Unknown Running
    3 of 4 jobs done; job `test` failed: step `main` exited with code 3
    ");
    world.run_job("notify");
    assert_snapshot!(world.summary(), @r"
    test Failed StepFailed User: step `main` exited with code 3
    pack Skipped NeedsNotSucceeded: it needs job `test`, which failed
    ship Skipped NeedsNotSucceeded: it needs job `pack`, which was skipped
    notify Succeeded Succeeded
    Succeeded=False Failed
    1 of 4 jobs succeeded; job `test` failed: step `main` exited with code 3
    ");
    assert_snapshot!(world.events.join("\n"), @r"
    Started: pipeline `build-7` started: 4 jobs
    JobFailed: job `test` failed: step `main` exited with code 3
    Failed: 1 of 4 jobs succeeded; job `test` failed: step `main` exited with code 3
    ");
}

#[test]
fn a_failing_finally_job_makes_the_run_fail() {
    let mut world = World::new(pipeline(vec![job("build", &[])], vec![job("notify", &[])]));
    world.turn();
    world.run_job("build");
    world.accept("notify");
    world.turn();
    world.fail("notify", 1);
    world.turn();
    assert_eq!(verdict(world.status()), Verdict::Failed);
}

#[test]
fn cancel_stops_running_jobs_and_finally_runs() {
    let jobs = vec![job("run", &[]), job("start", &[]), job("wait", &["run"])];
    let mut world = World::new(pipeline(jobs, vec![job("notify", &[])]));
    world.turn();
    world.accept("run");
    world.turn();
    world.run.spec.cancel = true;
    world.turn();
    assert_eq!(world.cancels.len(), 1);
    assert_snapshot!(world.summary(), @r"
    run Running Stopping: the run was cancelled
    start Cancelled Cancelled Cancelled: stopped before its first step: the run was cancelled
    wait Cancelled Cancelled Cancelled: not started: the run was cancelled
    notify Pending WaitingForJobs
    Succeeded=Unknown Cancelling
    2 of 4 jobs done; job `run`: the run was cancelled
    ");
    let step = StepFact {
        phase: StepPhase::Cancelled,
        signal: Some(15),
        ..StepFact::default()
    };
    world.result("run", JobOutcome::Cancelled, step);
    world.turn();
    world.run_job("notify");
    assert_snapshot!(world.summary(), @r"
    run Cancelled Cancelled Cancelled: stopped: the run was cancelled
    start Cancelled Cancelled Cancelled: stopped before its first step: the run was cancelled
    wait Cancelled Cancelled Cancelled: not started: the run was cancelled
    notify Succeeded Succeeded
    Succeeded=False Cancelled
    1 of 4 jobs succeeded; the run was cancelled
    ");
    assert_eq!(verdict(world.status()), Verdict::Cancelled);
}

#[test]
fn a_cancelled_agent_that_does_not_answer_loses_its_pod() {
    let mut world = single();
    world.accept("build");
    world.turn();
    world.run.spec.cancel = true;
    world.turn();
    world.pass(41);
    let plan = world.turn();
    assert!(
        plan.steps
            .iter()
            .any(|step| matches!(step, Action::DeletePlace { .. }))
    );
    assert_snapshot!(world.summary(), @r"
    build Cancelled Cancelled Cancelled: the run was cancelled; its agent did not answer, so its pod is deleted
    Succeeded=False Cancelled
    0 of 1 job succeeded; the run was cancelled
    ");
}

#[test]
fn a_run_that_takes_too_long_is_stopped() {
    let mut spec = pipeline(vec![job("long", &[]), job("next", &["long"])], vec![]);
    spec.timeout = Some("10m".to_owned());
    let mut world = World::new(spec);
    world.turn();
    world.accept("long");
    world.turn();
    world.pass(600);
    world.turn();
    let step = StepFact {
        phase: StepPhase::Cancelled,
        ..StepFact::default()
    };
    world.result("long", JobOutcome::RunTimedOut, step);
    world.turn();
    assert_snapshot!(world.summary(), @r"
    long Cancelled RunTimedOut Timeout: stopped: the run ran out of its time
    next Cancelled RunTimedOut Timeout: not started: the run ran out of its time
    Succeeded=False TimedOut
    0 of 2 jobs succeeded; the run ran longer than 10m
    ");
    assert_eq!(verdict(world.status()), Verdict::TimedOut);
}

#[test]
fn an_agent_that_does_not_keep_the_limit_is_cancelled_and_then_deleted() {
    let mut world = single();
    world.accept("build");
    world.turn();
    world.pass(3_600 + 30);
    let plan = world.turn();
    assert!(plan.steps.iter().any(|step| matches!(
        step,
        Action::Cancel {
            reason: CancelReason::JobTimeout,
            ..
        }
    )));
    world.pass(40);
    world.turn();
    assert_snapshot!(world.summary(), @r"
    build Failed JobTimedOut Timeout: the job ran longer than 1h
    Succeeded=False TimedOut
    0 of 1 job succeeded; job `build` failed: the job ran longer than 1h
    ");
}

#[test]
fn a_restart_of_the_operator_turns_no_result_into_a_timeout() {
    let mut world = single();
    world.accept("build");
    world.turn();
    let mut agent = world.agents.remove(0);
    world.pass(3 * 3_600);
    world.observing_since = world.now;
    world.offers.clear();
    world.turn();
    assert_eq!(world.job("build").state, JobState::Running);
    assert_eq!(
        world.offers.len(),
        1,
        "the hub is told again whom to expect"
    );
    agent.accepted_at = None;
    world.agents.push(agent);
    world.succeed("build");
    world.turn();
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
}

#[test]
fn a_suspended_run_starts_nothing_and_goes_on_later() {
    let mut world = World::new(pipeline(vec![job("a", &[]), job("b", &["a"])], vec![]));
    world.run.spec.suspend = true;
    assert_eq!(world.turn().steps, []);
    assert_eq!(world.status().start_time, None);
    world.run.spec.suspend = false;
    world.turn();
    world.run.spec.suspend = true;
    world.run_job("a");
    assert_snapshot!(world.summary(), @r"
    a Succeeded Succeeded
    b Pending Suspended
    Succeeded=Unknown Suspended
    1 of 2 jobs done
    ");
    world.run.spec.suspend = false;
    world.turn();
    world.run_job("b");
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
}

#[test]
fn outputs_reach_the_jobs_that_need_them() {
    let mut build = job("build", &[]);
    let value = "v${{ steps.main.outputs.version }}".to_owned();
    build.outputs = vec![JobOutput {
        name: "version".to_owned(),
        value,
    }];
    let mut ship = job("ship", &["build"]);
    let value = Some("${{ jobs.build.outputs.version }} of ${{ run.name }}".to_owned());
    ship.env = vec![EnvVar {
        name: "V".to_owned(),
        value,
        ..EnvVar::default()
    }];
    let mut world = World::new(pipeline(vec![build, ship], vec![]));
    world.turn();
    world.accept("build");
    world.succeed("build");
    let (step, name) = ("main".to_owned(), "version".to_owned());
    let output = StepOutput {
        step,
        name,
        value: "1.2".to_owned(),
    };
    world.agents[0]
        .result
        .as_mut()
        .unwrap()
        .outputs
        .push(output);
    let plan = world.turn();
    let offer = plan.steps.iter().find_map(|step| match step {
        Action::Offer(offer) => Some(offer),
        _ => None,
    });
    let env = &offer.unwrap().steps[0].env;
    assert_eq!(
        env[0].value,
        EnvValue::Literal("v1.2 of build-7".to_owned())
    );
}

#[test]
fn a_missing_output_is_a_configuration_failure_that_names_it() {
    let mut build = job("build", &[]);
    let value = "${{ steps.main.outputs.version }}".to_owned();
    build.outputs = vec![JobOutput {
        name: "version".to_owned(),
        value,
    }];
    let mut world = World::new(pipeline(vec![build], vec![]));
    world.turn();
    world.run_job("build");
    assert_snapshot!(world.summary(), @r"
    build Failed ExpressionFailed Configuration: output `version`: `steps.main.outputs.version` can't be evaluated: there is no `version`; a step's outputs are those that it writes to $RUSTCI_OUTPUT
    Succeeded=False Failed
    0 of 1 job succeeded; job `build` failed: output `version`: `steps.main.outputs.version` can't be evaluated: there is no `version`; a step's outputs are those that it writes to $RUSTCI_OUTPUT
    ");
}

#[test]
fn a_missing_pipeline_is_waited_for_and_then_named() {
    let mut world = single();
    world.run.status = None;
    world.run.spec.pipeline_spec = None;
    world.run.spec.pipeline_ref = Some(PipelineRef {
        name: "nightly".to_owned(),
    });
    world.turn();
    assert_snapshot!(world.summary(), @r"
    Succeeded=Unknown WaitingForPipeline
    there is no Pipeline `nightly` in the namespace `team`
    ");
    world.pass(30);
    world.turn();
    assert_snapshot!(world.summary(), @r"
    Succeeded=False PipelineNotFound
    there is no Pipeline `nightly` in the namespace `team`
    ");
}

#[test]
fn an_invalid_pipeline_ends_the_run_with_all_problems() {
    let mut world = World::new(pipeline(
        vec![job("a", &["b"]), job("b", &["a", "x"])],
        vec![],
    ));
    world.turn();
    assert_snapshot!(world.summary(), @r"
    Succeeded=False InvalidPipeline
    spec.pipelineSpec.jobs[1].needs[1]: no job is named `x`; correct the name, or add the job
    spec.pipelineSpec.jobs[0].needs: the jobs wait for each other: a needs b needs a; remove one of these needs
    ");
}

#[test]
fn progress_of_steps_is_written_later_a_start_soon_and_an_end_at_once() {
    let mut world = single();
    world.accept("build");
    world.turn();
    let old = world.status().clone();
    assert_eq!(status_urgency(Some(&old), &old), Write::None);
    let mut starting = old.clone();
    starting.jobs[0].state = JobState::Starting;
    let started = status_urgency(Some(&starting), &old);
    assert!(matches!(started, Write::Soon(_)), "{started:?}");
    let mut new = old.clone();
    new.jobs[0].steps[0].exit_code = Some(1);
    assert!(matches!(status_urgency(Some(&old), &new), Write::Later(_)));
    new.jobs[0].state = JobState::Failed;
    assert_eq!(status_urgency(Some(&old), &new), Write::Now);
    let text = serde_json::to_string(&old).unwrap();
    let read_back = serde_json::from_str(&text).unwrap();
    assert_eq!(status_urgency(Some(&read_back), &old), Write::None);
}

#[test]
fn the_runs_environment_wins_and_its_values_stand_as_they_are() {
    let variable = |name: &str, value: &str| crds::EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    };
    let mut build = job("build", &[]);
    build.steps[0].env = vec![variable("LEVEL", "step"), variable("OWN", "step")];
    let mut world = World::new(pipeline(vec![build], vec![]));
    let secret = crds::EnvSource {
        secret_key_ref: Some(crds::SecretKeyRef {
            name: "keys".to_owned(),
            key: "token".to_owned(),
            optional: None,
        }),
        config_map_key_ref: None,
    };
    world.run.spec.env = vec![
        variable("LEVEL", "${{ run }}"),
        crds::EnvVar {
            name: "TOKEN".to_owned(),
            value: None,
            value_from: Some(secret.clone()),
        },
    ];
    let plan = world.turn();
    let place = plan.steps.iter().find_map(|action| match action {
        Action::CreatePlace(place) => Some(place),
        _ => None,
    });
    let offer = plan.steps.iter().find_map(|action| match action {
        Action::Offer(offer) => Some(offer),
        _ => None,
    });
    assert_eq!(place.unwrap().env_from[0].source, secret);
    let env: Vec<_> = (offer.unwrap().steps[0].env.iter())
        .map(|entry| (entry.name.as_str(), entry.value.clone(), entry.secret))
        .collect();
    let text = |value: &str| EnvValue::Literal(value.to_owned());
    let from = EnvValue::FromAgentEnv("RUSTCI_FROM_0".to_owned());
    let expected = [
        ("OWN", text("step"), false),
        ("LEVEL", text("${{ run }}"), false),
        ("TOKEN", from, true),
    ];
    assert_eq!(env, expected);
}
