//! Runs whose jobs and steps come from elsewhere.
//! Must not check single mistakes: the tests of `validate` do.

use crds::{NamedValue, ParamValue, PipelineSpec};
use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

const SHARED: &str = r#"
params: [{name: word, default: hush, enum: [hush, loud]}, {name: count, type: integer, default: 1}]
env: [{name: FROM, value: shared}]
stepTemplates:
- name: say
  inputs: [{name: word}, {name: times, type: integer, default: 2}]
  steps:
  - {name: one, run: 'echo "$WORD"', env: [{name: WORD, value: "${{ inputs.word }}"}]}
  - {name: two, run: "true", when: inputs.times > 2, env: [{name: T, value: "${{ inputs.times + 1 }}"}]}
  outputs: [{name: said, value: "said ${{ steps.one.outputs.said }}"}, {name: more, value: "${{ steps.two.outputs.no }}"}]
jobs:
- name: test
  image: oak
  env: [{name: COUNT, value: "${{ params.count * 2 }}"}, {name: WORD, value: "${{ params.word }}"}]
  steps: [{name: main, run: "true"}]
"#;

const USER: &str = r#"
params: [{name: word, default: loud}, {name: size, type: integer, default: 3}]
env: [{name: FROM, value: user}, {name: TEAM, value: birch}]
jobs:
- name: first
  image: elm
  outputs: [{name: said, value: "${{ steps.talk.outputs.said }}"}]
  steps:
  - {name: talk, uses: {pipeline: shared, template: say}, when: always(), workingDir: sub, with: [{name: word, value: "${{ params.word + '; $(reboot)' }}"}]}
- name: unit
  needs: [first]
  uses: {pipeline: shared, job: test}
  env: [{name: SAID, value: "${{ jobs.first.outputs.said }}"}]
  with: [{name: count, value: "${{ params.size }}"}, {name: word, value: "${{ params.word }}"}]
"#;

fn parsed(text: &str) -> PipelineSpec {
    serde_yaml::from_str(text).unwrap()
}

fn world(user: &str, shared: Option<&str>) -> World {
    let mut world = World::new(parsed(user));
    world
        .others
        .extend(shared.map(|text| ("shared".to_owned(), parsed(text))));
    world
}

fn offers(plan: &Plan) -> String {
    let offers = plan.steps.iter().filter_map(|action| match action {
        Action::Offer(offer) => Some(offer),
        _ => None,
    });
    let steps = offers.flat_map(|offer| &offer.steps).map(|step| {
        let env: Vec<_> = step
            .env
            .iter()
            .map(|entry| match &entry.value {
                EnvValue::Literal(value) => format!("{}={value}", entry.name),
                EnvValue::FromAgentEnv(name) => format!("{} from {name}", entry.name),
                EnvValue::Parts(parts) => format!("{} of {parts:?}", entry.name),
            })
            .collect();
        let StepRuns {
            after_success,
            after_failure,
            after_cancel,
        } = step.runs;
        format!(
            "{} `{}` in `{}` {after_success} {after_failure} {after_cancel}: {}",
            step.name,
            step.script,
            step.workdir,
            env.join(", ")
        )
    });
    steps.collect::<Vec<_>>().join("\n")
}

/// Lets the first job succeed with its output; the plan that follows.
fn run_first(world: &mut World) -> Plan {
    world.accept("first");
    world.turn();
    world.succeed("first");
    let agent = world.agents.iter_mut().find(|agent| agent.job == "first");
    agent.unwrap().result.as_mut().unwrap().outputs = vec![StepOutput {
        step: "talk.one".to_owned(),
        name: "said".to_owned(),
        value: "it".to_owned(),
    }];
    world.turn()
}

#[test]
fn values_reach_scripts_by_their_environment_and_nothing_is_pasted() {
    let mut world = world(USER, Some(SHARED));
    let plan = world.turn();
    assert_snapshot!(offers(&plan), @r#"
    talk.one `echo "$WORD"` in `sub` true true true: FROM=user, TEAM=birch, WORD=loud; $(reboot)
    talk.two `true` in `sub` false false false: FROM=user, TEAM=birch, T=3
    "#);
    let plan = run_first(&mut world);
    assert_snapshot!(offers(&plan), @"main `true` in `` true false false: FROM=shared, TEAM=birch, COUNT=6, WORD=loud, SAID=said it");
    world.run_job("unit");
    assert_snapshot!(world.summary(), @r"
    first Succeeded Succeeded
    unit Succeeded Succeeded
    Succeeded=True Succeeded
    2 jobs succeeded
    ");
}

#[test]
fn a_value_that_is_not_allowed_fails_the_job_before_it_gets_a_pod() {
    let mut world = world(USER, Some(SHARED));
    world.run.spec.params = vec![NamedValue {
        name: "word".to_owned(),
        value: ParamValue::String("roar".to_owned()),
    }];
    world.turn();
    let plan = run_first(&mut world);
    assert!(
        plan.steps
            .iter()
            .all(|a| !matches!(a, Action::CreatePlace(_)))
    );
    assert_snapshot!(world.summary(), @r#"
    first Succeeded Succeeded
    unit Failed ExpressionFailed Configuration: step `main`: variable `WORD`: `params.word`: it may not be "roar": use one of "hush", "loud"
    Succeeded=False Failed
    1 of 2 jobs succeeded; job `unit` failed: step `main`: variable `WORD`: `params.word`: it may not be "roar": use one of "hush", "loud"
    "#);
}

#[test]
fn a_missing_pipeline_is_waited_for_and_then_ends_the_run() {
    let mut world = world(USER, None);
    world.turn();
    assert_snapshot!(world.summary(), @r"
    Succeeded=Unknown WaitingForPipeline
    there is no Pipeline `shared` in the namespace `team`, which job `first` uses
    ");
    world.pass(31);
    let plan = world.turn();
    assert!(plan.steps.is_empty());
    assert_snapshot!(world.summary(), @r"
    Succeeded=False PipelineNotFound
    there is no Pipeline `shared` in the namespace `team`, which job `first` uses
    ");
}

#[test]
fn a_pipeline_that_comes_in_time_is_used() {
    let mut world = world(USER, None);
    world.turn();
    world.pass(10);
    world.others.push(("shared".to_owned(), parsed(SHARED)));
    world.turn();
    assert_eq!(world.job("first").state, crds::JobState::Starting);
}

#[test]
fn a_missing_job_or_template_ends_the_run_before_any_pod() {
    for (from, to) in [
        ("job: test", "job: tset"),
        ("template: say", "template: sya"),
    ] {
        let mut world = world(&USER.replace(from, to), Some(SHARED));
        let plan = world.turn();
        assert!(plan.steps.is_empty());
        let summary = world.summary();
        assert!(
            summary.starts_with("Succeeded=False InvalidPipeline"),
            "{summary}"
        );
        assert!(summary.contains("did you mean"), "{summary}");
    }
}

#[test]
fn later_changes_of_the_other_pipeline_do_not_change_a_run() {
    let mut world = world(USER, Some(SHARED));
    world.turn();
    let kept = world.status().pipeline.clone().unwrap().used;
    assert_eq!(kept[0].pipeline, "shared");
    world.others[0].1 = parsed(&SHARED.replace("params.count * 2", "params.count * 100"));
    // A new process knows nothing of what was prepared.
    world.prepared = Prepared::default();
    let plan = run_first(&mut world);
    assert!(offers(&plan).contains("COUNT=6"), "{}", offers(&plan));
    world.others.clear();
    world.prepared = Prepared::default();
    world.run_job("unit");
    assert!(
        world.summary().contains("Succeeded=True"),
        "{}",
        world.summary()
    );
    assert_eq!(world.status().pipeline.clone().unwrap().used, kept);
}

#[test]
fn a_snapshot_that_does_not_fit_is_refused_with_its_size() {
    let script = "x".repeat(60_000);
    let steps: Vec<_> = (0..20)
        .map(|i| format!("{{name: s{i}, run: {script}}}"))
        .collect();
    let shared = format!(
        "jobs: [{{name: test, image: oak, steps: [{}]}}]",
        steps.join(", ")
    );
    let user = "jobs: [{name: unit, uses: {pipeline: shared, job: test}}]";
    let mut world = world(user, Some(&shared));
    world.turn();
    assert_snapshot!(world.summary(), @r"
    Succeeded=False InvalidPipeline
    the pipeline with all that it uses has 1173 KiB, and a run can keep 1024 KiB: put long scripts into the image or the repository, or split the pipeline
    ");
}

#[test]
fn no_run_of_a_pipeline_that_only_offers_templates_starts() {
    let mut world = world(
        "{jobs: [], stepTemplates: [{name: greet, steps: [{name: say, run: echo hello}]}]}",
        None,
    );
    world.turn();
    assert_snapshot!(world.summary(), @r"
    Succeeded=False InvalidPipeline
    the Pipeline `build-7` has no job and only offers step templates: start a run of one that uses them
    ");
}
