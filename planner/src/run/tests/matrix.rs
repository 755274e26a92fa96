//! Jobs with a matrix: their names, results and stops.
//! Must not test how combinations are built: that is tested beside it.

use crds::{Job, JobOutput, JobState, Matrix};
use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

fn with_matrix(job: Job, yaml: &str) -> Job {
    Job {
        matrix: Some(serde_yaml::from_str::<Matrix>(yaml).unwrap()),
        ..job
    }
}

const TWO: &str = "{axes: [{name: os, values: [linux, plan9]}, {name: n, values: [1, 2]}]}";

fn states(world: &World) -> Vec<String> {
    let jobs = world.status().jobs.iter();
    jobs.map(|job| format!("{} {:?}", job.name, job.state))
        .collect()
}

#[test]
fn every_combination_is_a_job_with_its_own_values() {
    let mut each = with_matrix(job("each", &[]), TWO);
    each.image = Some("${{ matrix.os }}:${{ matrix.n }}".to_owned());
    let jobs = vec![job("first", &[]), each, job("last", &["each"])];
    let mut world = World::new(pipeline(jobs, vec![]));
    let plan = world.turn();
    let images = plan.steps.iter().filter_map(|action| match action {
        Action::CreatePlace(place) => Some(format!("{} {}", place.key.job, place.image)),
        _ => None,
    });
    assert_snapshot!(images.collect::<Vec<_>>().join("\n"), @r"
    first busybox
    each.linux_1 linux:1
    each.linux_2 linux:2
    each.plan9_1 plan9:1
    each.plan9_2 plan9:2
    ");
    for job in ["first", "each.linux_1", "each.plan9_2", "each.plan9_1"] {
        world.run_job(job);
    }
    assert_eq!(world.job("last").state, JobState::Pending);
    world.run_job("each.linux_2");
    world.run_job("last");
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
    let one = world.job("each.plan9_1");
    assert_eq!(one.job.as_deref(), Some("each"));
    assert_eq!(one.matrix.len(), 2);
}

#[test]
fn a_failed_job_stops_the_others_of_its_matrix() {
    let jobs = vec![
        with_matrix(job("each", &[]), TWO),
        job("apart", &[]),
        job("last", &["each"]),
    ];
    let mut world = World::new(pipeline(jobs, vec![]));
    world.turn();
    for job in ["each.linux_1", "each.linux_2"] {
        world.accept(job);
    }
    world.turn();
    world.fail("each.linux_1", 3);
    world.turn();
    assert_eq!(world.cancels.len(), 1);
    assert_snapshot!(world.summary(), @r"
    each.linux_1 Failed StepFailed User: step `main` exited with code 3
    each.linux_2 Running Stopping: another job of its matrix failed
    each.plan9_1 Cancelled FailFast Cancelled: stopped before its first step: another job of its matrix failed
    each.plan9_2 Cancelled FailFast Cancelled: stopped before its first step: another job of its matrix failed
    apart Starting PodStarting
    last Skipped NeedsNotSucceeded: it needs job `each.linux_1`, which failed
    Succeeded=Unknown Running
    4 of 6 jobs done; job `each.linux_1` failed: step `main` exited with code 3
    ");
    let step = StepFact {
        phase: StepPhase::Cancelled,
        ..StepFact::default()
    };
    world.result("each.linux_2", JobOutcome::Cancelled, step);
    world.run_job("apart");
    assert_snapshot!(world.summary(), @r"
    each.linux_1 Failed StepFailed User: step `main` exited with code 3
    each.linux_2 Cancelled FailFast Cancelled: stopped: another job of its matrix failed
    each.plan9_1 Cancelled FailFast Cancelled: stopped before its first step: another job of its matrix failed
    each.plan9_2 Cancelled FailFast Cancelled: stopped before its first step: another job of its matrix failed
    apart Succeeded Succeeded
    last Skipped NeedsNotSucceeded: it needs job `each.linux_1`, which failed
    Succeeded=False Failed
    1 of 6 jobs succeeded; job `each.linux_1` failed: step `main` exited with code 3
    ");
}

#[test]
fn without_fail_fast_the_others_go_on() {
    let yaml = "{axes: [{name: n, values: [1, 2, 3]}], failFast: false, maxParallel: 2}";
    let mut world = World::new(pipeline(vec![with_matrix(job("each", &[]), yaml)], vec![]));
    world.turn();
    let waiting = world.job("each.3");
    assert_eq!(waiting.reason.as_deref(), Some("WaitingForMatrix"));
    world.accept("each.1");
    world.fail("each.1", 3);
    world.turn();
    assert_eq!(
        states(&world),
        ["each.1 Failed", "each.2 Starting", "each.3 Starting"]
    );
    world.run_job("each.2");
    world.run_job("each.3");
    assert_eq!(verdict(world.status()), Verdict::Failed);
}

#[test]
fn an_axis_comes_from_the_output_of_a_job_and_results_go_on_as_a_list() {
    let output = |value: &str| JobOutput {
        name: "found".to_owned(),
        value: value.to_owned(),
    };
    let mut find = job("find", &[]);
    find.outputs = vec![output("${{ steps.main.outputs.x }}")];
    let yaml = "{axes: [{name: dir, from: jobs.find.outputs.found}]}";
    let mut each = with_matrix(job("each", &["find"]), yaml);
    each.outputs = vec![output("got ${{ matrix.dir }}")];
    let mut last = job("last", &["each"]);
    last.when = Some("jobs.each.matrix.all(m, m.result == 'Succeeded')".to_owned());
    last.steps[0].env = vec![crds::EnvVar {
        name: "ALL".to_owned(),
        value: Some("${{ toJson(jobs.each.matrix.map(m, m.outputs.found)) }}".to_owned()),
        value_from: None,
    }];
    let mut world = World::new(pipeline(vec![find, each, last, job("apart", &[])], vec![]));
    world.turn();
    world.accept("find");
    world.turn();
    world.succeed("find");
    let (step, name) = ("main".to_owned(), "x".to_owned());
    let value = r#"["src", "a/b"]"#.to_owned();
    let result = world.agents[0].result.as_mut().unwrap();
    result.outputs.push(StepOutput { step, name, value });
    world.turn();
    let names: Vec<_> = world.status().jobs.iter().map(|j| j.name.clone()).collect();
    assert_snapshot!(names.join(" "), @"find each.src each.a_b-huzmo3em5w last apart");
    world.run_job(&names[1]);
    world.run_job(&names[2]);
    let env = world.plan().steps.iter().find_map(|action| match action {
        Action::Offer(offer) if offer.key.job == "last" => Some(offer.steps[0].env[0].clone()),
        _ => None,
    });
    let value = EnvValue::Literal(r#"["got src","got a/b"]"#.to_owned());
    assert_eq!(env.map(|env| env.value), Some(value));
    world.run_job("last");
    world.run_job("apart");
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
}

#[test]
fn a_matrix_that_cannot_be_built_ends_its_job_and_an_empty_one_skips_it() {
    let end = |from: &str| {
        let yaml = format!("{{axes: [{{name: n, from: \"{from}\"}}]}}");
        let jobs = vec![with_matrix(job("each", &[]), &yaml), job("last", &["each"])];
        let mut world = World::new(pipeline(jobs, vec![]));
        world.turn();
        world.summary()
    };
    assert_snapshot!(end("fromJson('[]')"), @r"
    each Skipped MatrixEmpty: its matrix has no combination
    last Skipped NeedsNotSucceeded: it needs job `each`, which was skipped
    Succeeded=True Succeeded
    0 jobs succeeded, 2 skipped
    ");
    assert_snapshot!(end("fromJson('7')"), @r"
    each Failed MatrixFailed Configuration: its matrix: axis `n`: `fromJson('7')` can't be evaluated: the result is a int, not a list
    last Skipped NeedsNotSucceeded: it needs job `each`, which failed
    Succeeded=False Failed
    0 of 2 jobs succeeded; job `each` failed: its matrix: axis `n`: `fromJson('7')` can't be evaluated: the result is a int, not a list
    ");
    assert_snapshot!(end("['x', 'x']"), @r#"
    each Failed MatrixFailed Configuration: its matrix: the combination x is there twice
    last Skipped NeedsNotSucceeded: it needs job `each`, which failed
    Succeeded=False Failed
    0 of 2 jobs succeeded; job `each` failed: its matrix: the combination x is there twice
    "#);
}

#[test]
fn a_matrix_in_finally_runs_after_a_cancel() {
    let finally = vec![with_matrix(
        job("tell", &[]),
        "{axes: [{name: n, values: [1, 2]}]}",
    )];
    let mut world = World::new(pipeline(vec![job("build", &[])], finally));
    world.turn();
    world.run.spec.cancel = true;
    world.turn();
    world.run_job("tell.1");
    world.run_job("tell.2");
    assert_eq!(verdict(world.status()), Verdict::Cancelled);
}

#[test]
fn a_job_that_cannot_even_start_also_stops_its_matrix() {
    let yaml = r#"{axes: [{name: v, values: ['{"a": "x"}', '{}']}]}"#;
    let mut each = with_matrix(job("each", &[]), yaml);
    each.image = Some("${{ fromJson(matrix.v).a }}".to_owned());
    let mut world = World::new(pipeline(vec![each], vec![]));
    world.turn();
    world.turn();
    let ends: Vec<_> = (world.status().jobs.iter())
        .map(|job| job.reason.clone().unwrap_or_default())
        .collect();
    assert_eq!(ends, ["FailFast", "ExpressionFailed"]);
    assert_eq!(verdict(world.status()), Verdict::Failed);
}
