//! One table of mistakes: each with its field, its message and its remedy.
//! Must not repeat tests of durations or expressions.

use super::*;

const GOOD: &str = r#"
params: [{name: profile, default: release, enum: [debug, release]}]
env: [{name: MODE, value: "${{ params.profile }}"}]
timeout: 1h
jobs:
- name: build
  image: busybox
  outputs: [{name: version, value: "${{ steps.main.outputs.version }}"}]
  steps: [{name: main, run: "true", timeout: 5m}]
- name: unit-test
  image: busybox
  needs: [build]
  env: [{name: V, value: "${{ jobs.build.outputs.version }}"}]
  steps: [{name: main, run: "true"}]
finally:
- name: notify
  image: busybox
  env: [{name: R, value: "${{ jobs['unit-test'].result }}"}]
  steps: [{name: main, run: "true"}]
"#;

/// The problems of the good pipeline with one text replaced.
fn problems(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "`{from}` stands in the good pipeline");
    let spec: PipelineSpec = serde_yaml::from_str(&GOOD.replacen(from, to, 1)).unwrap();
    let problems = validate_pipeline(&spec).err().unwrap_or_default();
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_good_pipeline_has_no_problem() {
    assert_eq!(problems("timeout: 1h", "timeout: 2h"), "");
}

#[test]
fn every_mistake_has_its_field_its_message_and_a_remedy() {
    let cases = [
        ("name: build", "name: Build_1"),
        ("name: unit-test", "name: build"),
        ("needs: [build]", "needs: [biuld]"),
        ("needs: [build]", "needs: [unit-test]"),
        ("needs: [build]", "needs: [build, build]"),
        ("- name: build\n", "- name: build\n  needs: [unit-test]\n"),
        ("name: notify", "name: build"),
        ("- name: notify\n", "- name: notify\n  needs: [build]\n"),
        ("timeout: 1h", "timeout: 1hour"),
        ("timeout: 5m", "timeout: 5"),
        ("name: MODE", "name: RUSTCI_MODE"),
        ("name: MODE", "name: a-b"),
        (
            "name: MODE,",
            "name: MODE, valueFrom: {secretKeyRef: {name: s, key: k}},",
        ),
        ("value: \"${{ params.profile }}\"", "valueFrom: {}"),
        (
            "{name: MODE, value: \"${{ params.profile }}\"}",
            "{name: MODE}",
        ),
        ("default: release", "default: fast"),
        ("default: release", "default: 3"),
        ("  image: busybox\n", ""),
        (
            "timeout: 1h",
            "triggers: {apply: true}\nretention: {ttl: soon}",
        ),
        ("default: release, ", ""),
        ("run: \"true\"", "run: \"\""),
        ("params.profile", "params.profil"),
        ("jobs.build.outputs.version", "jobs.notify.result"),
        ("  needs: [build]\n", ""),
    ];
    let found: Vec<_> = cases
        .iter()
        .map(|(from, to)| format!("{to:?}\n  {}", problems(from, to).replace('\n', "\n  ")))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    "name: Build_1"
      spec.jobs[1].needs[0]: no job is named `build`; correct the name, or add the job
      spec.jobs[0].name: `Build_1` is no name for a job or step; use lower-case letters, digits and `-`, with a letter or digit at both ends
      spec.jobs[1].env[0].value (column 5): no job is named `build`; the jobs are Build_1, unit-test
    "name: build"
      spec.jobs[1]: the job `build` is there twice; give each its own name, or remove one
      spec.jobs[1].needs[0]: the job `build` needs itself; remove it from needs
      spec.finally[0].env[0].value (column 5): no job is named `unit-test`; the jobs are build, build
    "needs: [biuld]"
      spec.jobs[1].needs[0]: no job is named `biuld`; did you mean `build`?
      spec.jobs[1].env[0].value (column 5): the job `build` is not needed here; add it to the needs of this job
    "needs: [unit-test]"
      spec.jobs[1].needs[0]: the job `unit-test` needs itself; remove it from needs
    "needs: [build, build]"
      spec.jobs[1].needs[1]: the need `build` is there twice; give each its own name, or remove one
    "- name: build\n  needs: [unit-test]\n"
      spec.jobs[0].needs: the jobs wait for each other: build needs unit-test needs build; remove one of these needs
    "name: build"
      spec.finally[0].name: the name `build` is used by another job; give it its own name
    "- name: notify\n  needs: [build]\n"
      spec.finally[0].needs: a finally job has no needs; remove them: finally jobs start when all other jobs have ended
    "timeout: 1hour"
      spec.timeout: `o` is not expected here; write numbers with the units d, h, m, s, largest first, such as `90s`, `20m`, `1h30m`, `14d`
    "timeout: 5"
      spec.jobs[0].steps[0].timeout: `5` has no unit; write numbers with the units d, h, m, s, largest first, such as `90s`, `20m`, `1h30m`, `14d`
    "name: RUSTCI_MODE"
      spec.env[0].name: `RUSTCI_MODE` begins with RUSTCI_, which is kept for RustCI's own; choose another name
    "name: a-b"
      spec.env[0].name: `a-b` is no identifier; use letters, digits and `_`, not beginning with a digit
    "name: MODE, valueFrom: {secretKeyRef: {name: s, key: k}},"
      spec.env[0]: the variable `MODE` has both value and valueFrom; set exactly one of the two
    "valueFrom: {}"
      spec.env[0].valueFrom: neither secretKeyRef nor configMapKeyRef is set; set exactly one of the two
    "{name: MODE}"
      spec.env[0]: the variable `MODE` has neither value nor valueFrom; set exactly one of the two
    "default: fast"
      spec.params[0].default: "fast" is not one of the enum; use one of "debug", "release"
    "default: 3"
      spec.params[0].default: 3 is an integer, not a string; give a value of the declared type
    ""
      spec.jobs[0]: the job `build` has neither image nor runner; set image, or name a Runner that has one
    "triggers: {apply: true}\nretention: {ttl: soon}"
      spec.retention.ttl: `s` is not expected here; write numbers with the units d, h, m, s, largest first, such as `90s`, `20m`, `1h30m`, `14d`
    ""
      
    "run: \"\""
      spec.jobs[0].steps[0].run: the value is empty; give one, or leave the field out
    "params.profil"
      spec.env[0].value (column 5): no param is named `profil`; did you mean `profile`?
    "jobs.notify.result"
      spec.jobs[1].env[0].value (column 5): no job is named `notify`; the jobs are build, unit-test
    ""
      spec.jobs[1].env[0].value (column 5): the job `build` is not needed here; add it to the needs of this job
    "#);
}

#[test]
fn applied_pipelines_need_defaults() {
    let yaml = GOOD
        .replace("default: release, ", "")
        .replace("timeout: 1h", "triggers: {apply: true}");
    let spec: PipelineSpec = serde_yaml::from_str(&yaml).unwrap();
    let problems = validate_pipeline(&spec).unwrap_err();
    assert_eq!(problems[0].field, "spec.triggers.apply");
}

#[test]
fn a_step_variable_replaces_the_one_of_job_and_pipeline() {
    let yaml = GOOD.replace("timeout: 5m}", "env: [{name: MODE, value: own}]}");
    let spec: PipelineSpec = serde_yaml::from_str(&yaml).unwrap();
    let valid = validate_pipeline(&spec).unwrap();
    let names: Vec<_> = valid.jobs[1].steps[0]
        .env
        .iter()
        .map(|e| e.name.as_str())
        .collect();
    assert_eq!(names, ["MODE", "V"]);
    assert_eq!(valid.jobs[0].steps[0].env.len(), 1);
}

#[test]
fn a_run_names_exactly_one_pipeline() {
    let mut spec = PipelineRunSpec::default();
    assert!(
        validate_run(&spec).unwrap_err()[0]
            .message
            .contains("neither")
    );
    spec.pipeline_ref = Some(crds::PipelineRef {
        name: "p".to_owned(),
    });
    assert!(validate_run(&spec).is_ok());
    spec.pipeline_spec = Some(PipelineSpec::default());
    let problems = validate_run(&spec).unwrap_err();
    assert!(
        problems
            .iter()
            .any(|problem| problem.message.contains("both"))
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.field == "spec.pipelineSpec.jobs")
    );
}
