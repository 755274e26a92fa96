//! Runs of new generations, conditions and retention of a Pipeline.

use crds::{Job, Retention, Step, Triggers};

use super::*;
use crate::run::conditions;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn pipeline(generation: i64) -> Pipeline {
    let step = Step {
        name: "s".to_owned(),
        run: "true".to_owned(),
        ..Step::default()
    };
    let job = Job {
        name: "j".to_owned(),
        image: Some("busybox".to_owned()),
        steps: vec![step],
        ..Job::default()
    };
    let spec = crds::PipelineSpec {
        jobs: vec![job],
        triggers: Some(Triggers {
            apply: true,
            ..Triggers::default()
        }),
        ..Default::default()
    };
    let mut pipeline = Pipeline::new("nightly", spec);
    pipeline.metadata.generation = Some(generation);
    pipeline.metadata.namespace = Some("team".to_owned());
    pipeline
}

fn finished(name: &str, is_success: bool, end: i64) -> PipelineRun {
    let mut run = PipelineRun::new(name, PipelineRunSpec::default());
    let condition = |type_: &str, truth: bool| Condition {
        type_: type_.to_owned(),
        status: if truth { "True" } else { "False" }.to_owned(),
        reason: "R".to_owned(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(at(end)),
    };
    run.status = Some(crds::PipelineRunStatus {
        conditions: vec![condition(COMPLETED, true), condition(SUCCEEDED, is_success)],
        completion_time: Some(Time(at(end))),
        ..Default::default()
    });
    run
}

fn plan_of(pipeline: &Pipeline, runs: &[PipelineRun], now: i64) -> PipelinePlan {
    let runs: Vec<_> = runs.iter().collect();
    plan(
        &ObservedPipeline {
            pipeline,
            runs: &runs,
            library: &crate::reuse::Library::default(),
        },
        at(now),
    )
}

#[test]
fn each_generation_gets_one_run() {
    let mut object = pipeline(3);
    let first = plan_of(&object, &[], 0);
    let run = first.create_runs[0].clone();
    assert_eq!(run.metadata.name.as_deref(), Some("nightly-g3"));
    assert_eq!(run.spec.pipeline_ref.as_ref().unwrap().name, "nightly");
    assert_eq!(
        run.metadata.labels.as_ref().unwrap()[labels::GENERATION],
        "3"
    );
    assert_eq!(first.status.last_applied_generation, Some(3));
    assert_eq!(first.status.last_run.as_deref(), Some("nightly-g3"));

    // The status was not written: the run is there and is not made again.
    assert_eq!(
        plan_of(&object, std::slice::from_ref(&run), 1).create_runs,
        []
    );
    // The status was written and the run was deleted since.
    object.status = Some(first.status);
    assert_eq!(plan_of(&object, &[], 2).create_runs, []);

    object.metadata.generation = Some(4);
    let next = plan_of(&object, &[run], 3).create_runs[0].clone();
    assert_eq!(next.metadata.name.as_deref(), Some("nightly-g4"));
}

#[test]
fn without_the_trigger_nothing_starts_by_itself() {
    let mut object = pipeline(1);
    object.spec.triggers = Some(Triggers::default());
    assert_eq!(plan_of(&object, &[], 0).create_runs, []);
    object.spec.triggers = None;
    assert_eq!(plan_of(&object, &[], 0).create_runs, []);
}

#[test]
fn a_pipeline_with_mistakes_starts_nothing_and_says_them() {
    let mut object = pipeline(1);
    object.spec.jobs[0].needs = vec!["k".to_owned()];
    let plan = plan_of(&object, &[], 0);
    assert_eq!(plan.create_runs, []);
    assert_eq!(plan.status.last_applied_generation, None);
    let ready = plan
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == READY)
        .unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", REASON_INVALID)
    );
    assert!(
        ready
            .message
            .starts_with("spec.jobs[0].needs[0]: no job is named `k`")
    );
    let stalled = plan
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == STALLED)
        .unwrap();
    assert_eq!(stalled.status, "True");

    // Corrected, with a new generation: it runs.
    object.spec.jobs[0].needs.clear();
    object.metadata.generation = Some(2);
    object.status = Some(plan.status);
    assert!(plan_of(&object, &[], 5).create_runs.len() == 1);
}

#[test]
fn an_unchanged_pipeline_has_an_unchanged_status() {
    let mut object = pipeline(1);
    let first = plan_of(&object, &[], 0).status;
    object.status = Some(first.clone());
    assert_eq!(plan_of(&object, &[], 100).status, first);
}

#[test]
fn the_oldest_finished_runs_go_by_count_and_the_others_stay() {
    let mut object = pipeline(1);
    object.spec.retention = Some(Retention {
        successful: Some(2),
        failed: Some(1),
        ttl: None,
    });
    let mut runs = vec![
        finished("ok-1", true, 1),
        finished("bad-2", false, 2),
        finished("ok-3", true, 3),
        finished("bad-4", false, 4),
        finished("ok-5", true, 5),
        PipelineRun::new("new", PipelineRunSpec::default()),
    ];
    let mut running = finished("running", false, 0);
    running.status.as_mut().unwrap().completion_time = None;
    running.status.as_mut().unwrap().conditions[0].status = "False".to_owned();
    runs.push(running);
    let plan = plan_of(&object, &runs, 100);
    assert_eq!(plan.delete_runs, ["bad-2", "ok-1"]);
    assert_eq!(plan.recheck, None);
}

#[test]
fn finished_runs_go_when_their_time_is_over() {
    let mut object = pipeline(1);
    object.spec.retention = Some(Retention {
        ttl: Some("1h".to_owned()),
        ..Retention::default()
    });
    let runs = [finished("old", true, 0), finished("young", false, 3_000)];
    let plan = plan_of(&object, &runs, 3_600);
    assert_eq!(plan.delete_runs, ["old"]);
    assert_eq!(plan.recheck, Some(Duration::from_secs(3_000)));
}

#[test]
fn ten_succeeded_and_twenty_other_runs_are_kept_by_default() {
    let runs: Vec<_> = (0..60)
        .map(|i| finished(&format!("r{i:02}"), i % 2 == 0, i))
        .collect();
    assert_eq!(plan_of(&pipeline(1), &runs, 100).delete_runs.len(), 20 + 10);
}

#[test]
fn the_time_of_a_condition_changes_only_with_its_status() {
    let condition = |status: &str, time: i64| Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: "R".to_owned(),
        message: time.to_string(),
        observed_generation: None,
        last_transition_time: Time(at(time)),
    };
    let mut list = vec![condition("True", 0)];
    conditions::upsert(&mut list, condition("True", 5));
    assert_eq!(
        (list[0].last_transition_time.0, list[0].message.as_str()),
        (at(0), "5")
    );
    conditions::upsert(&mut list, condition("False", 9));
    assert_eq!(list[0].last_transition_time.0, at(9));
}

/// A pipeline with one schedule at every full hour; 1,800,000,000 is one.
fn scheduled(overlap: crds::Overlap) -> Pipeline {
    let mut object = pipeline(1);
    object.spec.triggers = Some(Triggers {
        schedule: vec![crds::Schedule {
            cron: "0 * * * *".to_owned(),
            overlap,
            ..crds::Schedule::default()
        }],
        ..Triggers::default()
    });
    object
}

/// Plans, and keeps the status as the operator does.
fn step(object: &mut Pipeline, runs: &[PipelineRun], now: i64) -> Vec<PipelineRun> {
    let plan = plan_of(object, runs, now);
    object.status = Some(plan.status);
    plan.create_runs
}

#[test]
fn a_schedule_starts_one_run_at_each_of_its_times() {
    let mut object = scheduled(crds::Overlap::Allow);
    assert_eq!(
        step(&mut object, &[], 30),
        [],
        "the time before it came does not count"
    );
    let plan = plan_of(&object, &[], 60);
    assert_eq!(plan.recheck.map(|wait| wait.as_secs()), Some(3540));
    let first = step(&mut object, &[], 3600);
    assert_eq!(first.len(), 1);
    assert_eq!(step(&mut object, &first, 3601), [], "once for each time");
    let second = step(&mut object, &first, 7203);
    assert_ne!(first[0].metadata.name, second[0].metadata.name);
    let status = object.status.clone().unwrap();
    assert_eq!(status.schedules[0].handled_time.0, at(7200));
    assert_eq!(
        status.schedules[0].next_time.as_ref().map(|time| time.0),
        Some(at(10_800))
    );
    assert_eq!(status.last_run, second[0].metadata.name);
}

#[test]
fn of_missed_times_only_the_last_counts_and_only_within_its_deadline() {
    let mut object = scheduled(crds::Overlap::Allow);
    step(&mut object, &[], 30);
    assert_eq!(step(&mut object, &[], 5 * 3600 + 599).len(), 1);
    assert_eq!(
        step(&mut object, &[], 7 * 3600 + 601),
        [],
        "more than ten minutes late"
    );
    assert_eq!(step(&mut object, &[], 8 * 3600).len(), 1);
}

#[test]
fn a_forbidden_overlap_leaves_the_time_out() {
    let mut object = scheduled(crds::Overlap::Forbid);
    step(&mut object, &[], 30);
    let runs = step(&mut object, &[], 3600);
    assert_eq!(step(&mut object, &runs, 7200), []);
    let mut ended = runs[0].clone();
    ended.status = finished("x", true, 7300).status;
    assert_eq!(
        step(&mut object, &[ended], 7400),
        [],
        "a time that was left out stays so"
    );
    assert_eq!(step(&mut object, &[], 10_800).len(), 1);
}

#[test]
fn a_schedule_that_changes_starts_anew() {
    let mut object = scheduled(crds::Overlap::Allow);
    step(&mut object, &[], 30);
    object.spec.triggers.as_mut().unwrap().schedule[0].cron = "30 * * * *".to_owned();
    assert_eq!(step(&mut object, &[], 3600), []);
    assert_eq!(step(&mut object, &[], 5400).len(), 1);
    assert_eq!(object.status.unwrap().schedules.len(), 1);
}
