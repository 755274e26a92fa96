//! Jobs and templates that are used: what is right, and each mistake with its place and remedy.
//! Must not run anything: the stories of runs do.

use std::collections::BTreeSet;

use crds::PipelineSpec;

use crate::reuse::{Entry, Library, MAX_DEPTH};
use crate::validate::{Problem, ValidPipeline, limit, validate_pipeline, validate_pipeline_with};

const SHARED: &str = r#"
params:
- {name: profile, default: debug, enum: [debug, release]}
- {name: count, type: integer}
- {name: loud, type: boolean, default: false}
env: [{name: MODE, value: "${{ params.profile }}"}]
stepTemplates:
- name: tidy
  inputs: [{name: depth, type: integer, default: 1}, {name: what}]
  steps: [{name: sweep, run: sweep, env: [{name: WHAT, value: "${{ inputs.what }}"}]}]
  outputs: [{name: dust, value: "${{ steps.sweep.outputs.dust }}"}]
jobs:
- name: test
  image: oak
  outputs: [{name: version, value: "${{ steps.main.outputs.version }}"}]
  steps: [{name: main, run: "true"}]
- name: late
  image: oak
  needs: [test]
  when: jobs.test.result == 'Succeeded'
  steps: [{name: main, run: "true"}]
- name: many
  image: oak
  matrix: {axes: [{name: n, values: [1, 2]}]}
  steps: [{name: main, run: "true"}]
"#;

const GOOD: &str = r#"
params: [{name: size, type: integer, default: 3}]
env: [{name: TEAM, value: birch}]
stepTemplates:
- name: own
  inputs: [{name: word, default: hush}]
  steps:
  - {name: say, run: say, env: [{name: WORD, value: "${{ inputs.word }}"}]}
  - {name: clean, uses: {pipeline: shared, template: tidy}, with: [{name: what, value: "${{ inputs.word }}"}]}
jobs:
- name: build
  image: elm
  outputs: [{name: tag, value: "x"}]
  steps: [{name: main, run: "true"}]
- name: unit
  needs: [build]
  uses: {pipeline: shared, job: test}
  with: [{name: profile, value: release}, {name: count, value: "${{ params.size + 1 }}"}]
- name: sweep
  needs: [unit]
  image: elm
  env: [{name: V, value: "${{ jobs.unit.outputs.version }}"}]
  outputs: [{name: dust, value: "${{ steps.all.outputs.dust }}"}]
  steps:
  - {name: all, uses: {pipeline: shared, template: tidy}, with: [{name: what, value: "${{ jobs.build.outputs.tag }}"}]}
  - {name: more, uses: {template: own}}
"#;

fn parsed(text: &str) -> PipelineSpec {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn check(spec: &str, others: &[(&str, &str)]) -> Result<ValidPipeline, Vec<Problem>> {
    let others: Vec<_> = others
        .iter()
        .map(|(name, text)| (*name, parsed(text)))
        .collect();
    let mut library = Library::default();
    for (name, spec) in &others {
        let (uid, generation) = (None, None);
        library.add(
            name,
            Entry {
                uid,
                generation,
                spec,
            },
        );
    }
    validate_pipeline_with(&parsed(spec), &library)
}

fn words(result: Result<ValidPipeline, Vec<Problem>>) -> String {
    let problems = result.err().unwrap_or_default();
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// What is said of the good pipeline with one text replaced.
fn problems(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "`{from}` stands in the good pipeline");
    words(check(&GOOD.replacen(from, to, 1), &[("shared", SHARED)]))
}

#[test]
fn what_is_used_stands_in_the_place_of_its_user() {
    let valid = check(GOOD, &[("shared", SHARED)]).unwrap();
    let jobs: Vec<_> = valid
        .jobs()
        .map(|job| {
            let steps: Vec<_> = job.steps.iter().map(|step| step.name.as_str()).collect();
            format!("{} {:?} {}", job.name, job.image, steps.join(" "))
        })
        .collect();
    insta::assert_snapshot!(jobs.join("\n"), @r#"
    build Some("elm") main
    unit Some("oak") main
    sweep Some("elm") all.sweep more.say more.clean.sweep
    "#);
    let env = |job: usize, step: usize| {
        let env = valid.jobs[job].steps[step].env.iter();
        env.map(|variable| variable.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        env(1, 0),
        ["TEAM", "MODE"],
        "the user's pipeline, then the used one"
    );
    assert_eq!(env(2, 2), ["TEAM", "V", "WHAT"]);
    let used: Vec<_> = valid
        .used()
        .iter()
        .map(|used| used.pipeline.as_str())
        .collect();
    assert_eq!(used, ["shared"]);
    let kept = &valid.used()[0].spec;
    assert_eq!(kept.jobs.len(), 1, "only the job that is used is kept");
    let again = validate_pipeline_with(valid.spec(), &Library::of(valid.used()));
    assert_eq!(again.unwrap().used(), valid.used());
}

#[test]
fn the_user_of_a_job_overrides_its_fields() {
    let with = r#"uses: {pipeline: shared, job: test}
  image: ash
  timeout: 5m
  when: params.size > 2
  continueOnError: true
  env: [{name: MODE, value: mine}, {name: SIZE, value: "${{ params.size }}"}]
  retry: {limit: 2}
  pod: {runAsUser: 7}"#;
    let text = GOOD.replace("uses: {pipeline: shared, job: test}", with);
    let valid = check(&text, &[("shared", SHARED)]).unwrap();
    let job = &valid.jobs[1];
    assert_eq!(job.spec.image.as_deref(), Some("ash"));
    assert_eq!(job.timeout, Some(std::time::Duration::from_secs(300)));
    assert!(job.when.is_some() && job.retry.is_some() && job.spec.continue_on_error);
    assert_eq!(job.spec.pod.as_ref().unwrap().run_as_user, Some(7));
    assert_eq!(job.spec.needs, ["build"]);
    let names: Vec<_> = job.steps[0].env.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["TEAM", "MODE", "SIZE"]);
}

#[test]
fn every_mistake_of_a_user_has_its_field_its_message_and_a_remedy() {
    let job = "{pipeline: shared, job: test}";
    let values =
        "[{name: profile, value: release}, {name: count, value: \"${{ params.size + 1 }}\"}]";
    let template = "{pipeline: shared, template: tidy}, with: [{name: what, value: \"${{ jobs.build.outputs.tag }}\"}]";
    let cases = [
        (job, "{pipeline: shraed, job: test}"),
        (job, "{pipeline: elsewhere, job: test}"),
        (job, "{pipeline: shared, job: tset}"),
        (job, "{pipeline: shared, job: late}"),
        (
            values,
            "[{name: count, value: 1}, {name: profil, value: debug}]",
        ),
        (values, "[{name: profile, value: debug}]"),
        (values, "[{name: count, value: many}]"),
        (values, "[{name: count, value: true}]"),
        (
            values,
            "[{name: count, value: 1}, {name: profile, value: fast}]",
        ),
        (values, "[{name: count, value: \"${{ pipeline.name }}\"}]"),
        (values, "[{name: count, value: \"${{ params.size }}0\"}]"),
        (values, "[{name: count, value: \"${{ params.sise }}\"}]"),
        (
            values,
            "[{name: count, value: 1}, {name: loud, value: \"${{ params.size }}\"}]",
        ),
        (
            values,
            "[{name: count, value: \"${{ jobs.sweep.result }}\"}]",
        ),
        (template, "{pipeline: shared, template: tidi}"),
        (template, "{template: tidy}"),
        (template, "{pipeline: shared, template: tidy}"),
        (
            template,
            "{pipeline: shared, template: tidy}, timeout: 5m, with: [{name: what, value: x}]",
        ),
        ("outputs.dust", "outputs.dsut"),
        ("outputs.version", "outputs.verison"),
        ("inputs.word }}\"}]}\n", "params.size }}\"}]}\n"),
        ("inputs.word }}\"}]}\n", "inputs.wrod }}\"}]}\n"),
        ("value: birch", "value: \"${{ inputs.word }}\""),
        ("- name: unit\n", "- name: unit\n  shell: [sh]\n"),
        (
            "- name: unit\n",
            "- name: unit\n  steps: [{name: x, run: y}]\n",
        ),
        (
            "- name: build\n",
            "- name: build\n  with: [{name: x, value: y}]\n",
        ),
        (
            "job: test}\n  with: [{name: profile, value: release}",
            "job: many}\n  matrix: {axes: [{name: n, values: [1]}]}\n  with: [{name: loud, value: true}",
        ),
    ];
    let said = cases.map(|(from, to)| format!("# {}\n{}\n", to.trim(), problems(from, to)));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn circles_are_refused_and_name_their_way() {
    let user = |to: &str| format!("jobs: [{{name: a, uses: {to}}}]");
    let circle = check(
        &user("{pipeline: one, job: a}"),
        &[
            ("one", &*user("{pipeline: two, job: a}")),
            ("two", &*user("{pipeline: one, job: a}")),
        ],
    );
    let templates = "
stepTemplates:
- {name: a, steps: [{name: s, uses: {template: b}}]}
- {name: b, steps: [{name: s, uses: {template: a}}]}
jobs: [{name: j, image: oak, steps: [{name: s, uses: {template: a}}]}]
";
    let itself = "
stepTemplates: [{name: a, steps: [{name: s, uses: {template: a}}]}]
jobs: [{name: j, image: oak, steps: [{name: s, run: x}]}]
";
    let said = [circle, check(templates, &[]), check(itself, &[])].map(words);
    insta::assert_snapshot!(said.join("\n\n"), @r"
    spec.jobs[0].uses: the job `a` of the Pipeline `one` can't be used: spec.jobs[0].uses: the job `a` of the Pipeline `two` can't be used: spec.jobs[0].uses: what is used uses itself: one/a uses two/a uses one/a; remove one of these uses

    spec.stepTemplates[0].steps[0].uses: the template `b` of this Pipeline can't be used: spec.stepTemplates[1].steps[0].uses: what is used uses itself: a uses b uses a; remove one of these uses

    spec.stepTemplates[0].steps[0].uses: what is used uses itself: a uses a; remove one of these uses
    ");
}

#[test]
fn levels_and_steps_are_bounded() {
    let name = |i: usize| format!("p{i}");
    let chain = |last: usize| -> Vec<(String, String)> {
        let pipeline = |i: usize| match i == last {
            true => "jobs: [{name: a, image: oak, steps: [{name: s, run: x}]}]".to_owned(),
            false => format!(
                "jobs: [{{name: a, uses: {{pipeline: p{}, job: a}}}}]",
                i + 1
            ),
        };
        (1..=last).map(|i| (name(i), pipeline(i))).collect()
    };
    let run = |last: usize| {
        let others = chain(last);
        let others: Vec<_> = others.iter().map(|(n, t)| (&**n, &**t)).collect();
        words(check(
            "jobs: [{name: a, uses: {pipeline: p1, job: a}}]",
            &others,
        ))
    };
    assert_eq!(run(MAX_DEPTH), "");
    let said = run(MAX_DEPTH + 1);
    assert!(said.contains("9 levels deep: p1/a uses p2/a"), "{said}");

    let steps = |count: usize| {
        let steps: Vec<_> = (0..count)
            .map(|i| format!("{{name: s{i}, uses: {{template: two}}}}"))
            .collect();
        format!(
            "stepTemplates: [{{name: two, steps: [{{name: a, run: x}}, {{name: b, run: x}}]}}]\n\
             jobs: [{{name: j, image: oak, steps: [{}]}}]",
            steps.join(", ")
        )
    };
    assert_eq!(words(check(&steps(limit::STEPS / 2), &[])), "");
    let said = words(check(&steps(limit::STEPS / 2 + 1), &[]));
    insta::assert_snapshot!(said, @"spec.jobs[0].steps: with those of its templates the job has too many steps; use at most 64");
}

#[test]
fn a_bomb_of_templates_is_refused_without_being_built() {
    // Each level uses the next 64 times: 64^8 steps, all with a mistake at the bottom.
    let level = |i: usize| {
        let steps: Vec<_> = (0..64)
            .map(|s| format!("{{name: s{s}, uses: {{template: t{}}}}}", i + 1))
            .collect();
        format!("- {{name: t{i}, steps: [{}]}}", steps.join(", "))
    };
    let levels: Vec<_> = (0..MAX_DEPTH).map(level).collect();
    let bottom = "- {name: t8, steps: [{name: s, run: x, when: \"params.no\"}]}";
    let library = format!(
        "stepTemplates:\n{}\n{bottom}\njobs: [{{name: j, image: i, steps: [{{name: s, run: x}}]}}]",
        levels.join("\n")
    );
    let user =
        "jobs: [{name: j, image: i, steps: [{name: s, uses: {pipeline: bomb, template: t0}}]}]";
    let said = words(check(user, &[("bomb", &library)]));
    assert!(said.starts_with("spec.jobs[0].steps[0].uses: "), "{said}");
    assert!(!words(check(&library, &[])).is_empty());
}

#[test]
fn without_a_library_only_the_pipeline_itself_is_checked() {
    let spec = parsed(&GOOD.replace("template: own", "template: owm"));
    let said = words(validate_pipeline(&spec));
    insta::assert_snapshot!(said, @"spec.jobs[2].steps[1].uses.template: this Pipeline has no template `owm`; did you mean `own`?");
    let spec = parsed(&GOOD.replace("jobs.unit.outputs.version", "jobs.unit.outputs.anything"));
    assert!(
        validate_pipeline(&spec).is_ok(),
        "what is not known may be right"
    );
    let spec = parsed(&GOOD.replace("params.size + 1", "params.sise"));
    assert!(words(validate_pipeline(&spec)).contains("no param is named `sise`"));
}

/// Pseudo-random numbers, so that a failure can be had again by its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }

    /// Mostly below the bound, and the bound itself now and then.
    fn nearly(&mut self, bound: u64) -> u64 {
        match self.below(30) {
            0 => bound,
            _ => self.below(bound),
        }
    }
}

/// Pipelines that use each other at random, with names that may not exist.
fn world(seed: u64) -> Vec<(String, String)> {
    let mut chance = Chance(seed);
    let count = 1 + chance.below(4);
    let pipeline = |i: u64, chance: &mut Chance| {
        let template = |j: u64, chance: &mut Chance| {
            let steps: Vec<_> = (0..1 + chance.below(3))
                .map(|s| step(s, count, chance))
                .collect();
            format!(
                "- {{name: t{j}, inputs: [{{name: a, default: x}}], steps: [{}]}}",
                steps.join(", ")
            )
        };
        let templates: Vec<_> = (0..2).map(|j| template(j, chance)).collect();
        let job = |j: u64, chance: &mut Chance| match chance.below(3) {
            0 => format!(
                "- {{name: j{j}, uses: {{pipeline: p{}, job: j{}}}}}",
                chance.nearly(count),
                chance.nearly(2)
            ),
            _ => format!(
                "- {{name: j{j}, image: i, steps: [{}]}}",
                step(0, count, chance)
            ),
        };
        let jobs: Vec<_> = (0..2).map(|j| job(j, chance)).collect();
        let text = format!(
            "stepTemplates:\n{}\njobs:\n{}",
            templates.join("\n"),
            jobs.join("\n")
        );
        (format!("p{i}"), text)
    };
    (0..count).map(|i| pipeline(i, &mut chance)).collect()
}

fn step(index: u64, pipelines: u64, chance: &mut Chance) -> String {
    match chance.below(8) {
        0 => format!(
            "{{name: s{index}, uses: {{pipeline: p{}, template: t{}}}}}",
            chance.nearly(pipelines),
            chance.nearly(2)
        ),
        1 => format!(
            "{{name: s{index}, uses: {{template: t{}}}}}",
            chance.nearly(2)
        ),
        _ => format!("{{name: s{index}, run: x}}"),
    }
}

#[test]
fn whatever_uses_whatever_each_valid_pipeline_is_whole_and_bounded() {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..3_000 {
        let world = world(seed);
        let others: Vec<_> = world.iter().map(|(n, t)| (&**n, &**t)).collect();
        match check(others[0].1, &others) {
            Err(problems) => {
                wrong += 1;
                for problem in problems {
                    assert!(!problem.remedy.is_empty(), "seed {seed}: {problem}");
                }
            }
            Ok(valid) => {
                right += 1;
                for job in &valid.jobs {
                    let names: BTreeSet<_> = job.spec.steps.iter().map(|s| &s.name).collect();
                    assert_eq!(names.len(), job.steps.len(), "seed {seed}: names of steps");
                    assert!((1..=limit::STEPS).contains(&job.steps.len()), "seed {seed}");
                    assert!(job.spec.steps.iter().all(|step| !step.run.is_empty()));
                }
                let again = validate_pipeline_with(valid.spec(), &Library::of(valid.used()));
                let again = again.unwrap_or_else(|p| panic!("seed {seed}: {p:?}"));
                assert!(
                    again.jobs().eq(valid.jobs()),
                    "seed {seed}: what is kept is enough"
                );
            }
        }
    }
    assert!(right > 300 && wrong > 300, "{right} right, {wrong} wrong");
}
