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
      spec.jobs[0].steps[0].run: the step `main` has neither run nor uses; set exactly one of the two
    "params.profil"
      spec.env[0].value (column 5): no param is named `profil`; did you mean `profile`?
    "jobs.notify.result"
      spec.jobs[1].env[0].value (column 5): no job is named `notify`; the jobs are build, unit-test
    ""
      spec.jobs[1].env[0].value (column 5): the job `build` is not needed here; add it to the needs of this job
    "#);
}

/// The problems of a pipeline whose one job has this matrix.
fn matrix_problems(matrix: &str) -> String {
    let yaml = format!(
        "jobs: [{{name: a, image: 'x:${{{{ matrix.v }}}}', matrix: {matrix}, \
         steps: [{{name: s, run: 'true', when: \"matrix.v == 'x'\"}}]}}]"
    );
    let spec: PipelineSpec = serde_yaml::from_str(&yaml).unwrap();
    let problems = validate_pipeline(&spec).err().unwrap_or_default();
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

#[test]
fn every_mistake_in_a_matrix_is_named() {
    let many = (0..257)
        .map(|i| i.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let cases = [
        "{axes: [{name: v, values: [x, y]}]}",
        "{axes: [{name: v, values: [1, 2]}]}",
        "{axes: [{name: w, values: [x]}]}",
        "{axes: []}",
        "{axes: [{name: v}]}",
        "{axes: [{name: v, values: [x], from: '[1]'}]}",
        "{axes: [{name: v, from: jobs.b.outputs.x}]}",
        "{axes: [{name: v, from: '3'}]}",
        "{axes: [{name: v, values: [x]}], exclude: [{u: x}]}",
        "{axes: [{name: v, values: [x]}], exclude: [{v: x}]}",
        "{axes: [{name: v, values: [x]}], maxParallel: 0}",
        "{axes: [{name: v, values: [x]}, {name: v, values: [y]}]}",
        &format!("{{axes: [{{name: v, values: [x]}}, {{name: u, values: [{many}]}}]}}"),
    ];
    let found = cases.iter().map(|case| {
        format!(
            "{:.60}\n  {}",
            case,
            matrix_problems(case).replace('\n', "\n  ")
        )
    });
    insta::assert_snapshot!(found.collect::<Vec<_>>().join("\n"), @r"
    {axes: [{name: v, values: [x, y]}]}
      
    {axes: [{name: v, values: [1, 2]}]}
      spec.jobs[0].steps[0].when (column 10): a whole number never equals text; make it text with string(), or a number with int()
    {axes: [{name: w, values: [x]}]}
      spec.jobs[0].image (column 7): no axis is named `v`; the axes are w
      spec.jobs[0].steps[0].when (column 1): no axis is named `v`; the axes are w
    {axes: []}
      spec.jobs[0].matrix.axes: the list is empty; give at least 1
      spec.jobs[0].image (column 7): no axis is named `v`
      spec.jobs[0].steps[0].when (column 1): no axis is named `v`
    {axes: [{name: v}]}
      spec.jobs[0].matrix.axes[0]: the axis `v` has neither values nor from; set exactly one of the two
      spec.jobs[0].image (column 7): no axis is named `v`
      spec.jobs[0].steps[0].when (column 1): no axis is named `v`
    {axes: [{name: v, values: [x], from: '[1]'}]}
      spec.jobs[0].matrix.axes[0]: the axis `v` has both values and from; set exactly one of the two
    {axes: [{name: v, from: jobs.b.outputs.x}]}
      spec.jobs[0].matrix.axes[0].from (column 1): no job is named `b`; the jobs are a
    {axes: [{name: v, from: '3'}]}
      spec.jobs[0].matrix.axes[0].from (column 1): the result is a whole number, not a list; give a list, or text that is a list in JSON
    {axes: [{name: v, values: [x]}], exclude: [{u: x}]}
      spec.jobs[0].matrix.exclude[0]: no axis is named `u`; the axes are v
    {axes: [{name: v, values: [x]}], exclude: [{v: x}]}
      spec.jobs[0].matrix: no combination is left; exclude fewer, or remove the job
    {axes: [{name: v, values: [x]}], maxParallel: 0}
      spec.jobs[0].matrix.maxParallel: the number is out of range; use 1 to 256
    {axes: [{name: v, values: [x]}, {name: v, values: [y]}]}
      spec.jobs[0].matrix.axes[1]: the axis `v` is there twice; give each its own name, or remove one
    {axes: [{name: v, values: [x]}, {name: u, values: [0, 1, 2, 
      spec.jobs[0].matrix.axes[1].values: the list has 257 entries; use at most 256
    ");
}

#[test]
fn every_mistake_in_triggers_and_groups_is_named() {
    let cases = [
        "triggers: {schedule: [{cron: '0 3 * *'}]}",
        "triggers: {schedule: [{cron: '0 3 * * *', timeZone: Europe/Berln, startingDeadline: soon}]}",
        "triggers: {schedule: [{cron: '0 3 * * *'}, {cron: '0 3 * * *'}]}",
        "{params: [{name: p}], triggers: {schedule: [{cron: '0 3 * * *'}]}}",
        "concurrency: {group: '', maxParallel: 0, priority: 2000}",
        "concurrency: {group: 'x-${{ source.brnch }}${{ jobs.a.result }}'}",
    ];
    let found = cases.iter().map(|case| {
        let job = "[{name: a, image: x, steps: [{name: s, run: 'true'}]}]";
        let mut value: serde_yaml::Value = serde_yaml::from_str(case).unwrap();
        value["jobs"] = serde_yaml::from_str(job).unwrap();
        let spec: PipelineSpec = serde_yaml::from_value(value).unwrap();
        let problems = validate_pipeline(&spec).err().unwrap_or_default();
        let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
        format!("{case}\n  {}", lines.join("\n  "))
    });
    insta::assert_snapshot!(found.collect::<Vec<_>>().join("\n"), @r"
    triggers: {schedule: [{cron: '0 3 * *'}]}
      spec.triggers.schedule[0].cron: `0 3 * *` is no time: Invalid pattern: Pattern must have 5 fields when seconds are disallowed; write minute, hour, day of month, month and day of week, such as `0 3 * * *`
    triggers: {schedule: [{cron: '0 3 * * *', timeZone: Europe/Berln, startingDeadline: soon}]}
      spec.triggers.schedule[0].startingDeadline: `s` is not expected here; write numbers with the units d, h, m, s, largest first, such as `90s`, `20m`, `1h30m`, `14d`
      spec.triggers.schedule[0].timeZone: there is no time zone `Europe/Berln`; did you mean `Europe/Berlin`?
    triggers: {schedule: [{cron: '0 3 * * *'}, {cron: '0 3 * * *'}]}
      spec.triggers.schedule[1]: the same schedule is there twice; remove one
    {params: [{name: p}], triggers: {schedule: [{cron: '0 3 * * *'}]}}
      spec.triggers.schedule: nobody gives a value for the param `p`; give each param a default, or remove the trigger
    concurrency: {group: '', maxParallel: 0, priority: 2000}
      spec.concurrency.group: the value is empty; give one, or leave the field out
      spec.concurrency.maxParallel: the number is out of range; use 1 to 100
      spec.concurrency.priority: the number is out of range; use -1000 to 1000
    concurrency: {group: 'x-${{ source.brnch }}${{ jobs.a.result }}'}
      spec.concurrency.group (column 7): `source` has no field `brnch`; did you mean `branch`?
      spec.concurrency.group (column 26): `jobs` is not known here: no job has run yet
    ");
}

#[test]
fn every_mistake_in_a_retry_is_named() {
    let cases = [
        "{limit: 0}",
        "{limit: 11, failures: [User, User]}",
        "{limit: 1, backoff: {base: soon, factor: 0, cap: 5}}",
        "{limit: 1, onOutOfMemory: {cap: lots, factor: 1}}",
    ];
    let found = cases.iter().map(|case| {
        let yaml = format!(
            "jobs: [{{name: a, image: x, retry: {case}, steps: [{{name: s, run: 'true'}}]}}]"
        );
        let spec: PipelineSpec = serde_yaml::from_str(&yaml).unwrap();
        let problems = validate_pipeline(&spec).err().unwrap_or_default();
        let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
        format!("{case}\n  {}", lines.join("\n  "))
    });
    insta::assert_snapshot!(found.collect::<Vec<_>>().join("\n"), @r"
    {limit: 0}
      spec.jobs[0].retry.limit: the number is out of range; use 1 to 10
    {limit: 11, failures: [User, User]}
      spec.jobs[0].retry.limit: the number is out of range; use 1 to 10
      spec.jobs[0].retry.failures[1]: the class `User` is there twice; give each its own name, or remove one
    {limit: 1, backoff: {base: soon, factor: 0, cap: 5}}
      spec.jobs[0].retry.backoff.base: `s` is not expected here; write numbers with the units d, h, m, s, largest first, such as `90s`, `20m`, `1h30m`, `14d`
      spec.jobs[0].retry.backoff.cap: `5` has no unit; write numbers with the units d, h, m, s, largest first, such as `90s`, `20m`, `1h30m`, `14d`
      spec.jobs[0].retry.backoff.factor: the number is out of range; use 1 to 10
    {limit: 1, onOutOfMemory: {cap: lots, factor: 1}}
      spec.jobs[0].retry.onOutOfMemory.factor: the number is out of range; use 2 to 10
      spec.jobs[0].retry.onOutOfMemory: the job has no memory limit that could be raised; set pod.resources.limits.memory
      spec.jobs[0].retry.onOutOfMemory.cap: `lots` is no amount of memory; write for example 8Gi
    ");
}

#[test]
fn a_run_has_at_most_a_thousand_jobs_with_those_of_each_matrix() {
    let job = |name: &str| crds::Job {
        name: name.to_owned(),
        image: Some("x".to_owned()),
        matrix: Some(crds::Matrix {
            axes: vec![crds::Axis {
                name: "n".to_owned(),
                values: (0..250).map(crds::ParamValue::Integer).collect(),
                from: None,
            }],
            ..crds::Matrix::default()
        }),
        steps: vec![crds::Step {
            name: "s".to_owned(),
            run: "true".to_owned(),
            ..crds::Step::default()
        }],
        ..crds::Job::default()
    };
    let mut spec = PipelineSpec {
        jobs: ["a", "b", "c", "d"].map(job).into(),
        ..PipelineSpec::default()
    };
    assert!(validate_pipeline(&spec).is_ok());
    spec.finally_jobs = vec![crds::Job {
        matrix: None,
        ..job("e")
    }];
    let problems = validate_pipeline(&spec).unwrap_err();
    assert!(problems[0].message.contains("1001 jobs"), "{problems:?}");
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

#[test]
fn an_expression_where_none_is_evaluated_is_refused_with_its_field() {
    let job = "- name: unit-test\n  image: busybox\n";
    let with = |more: &str| problems(job, &format!("{job}{more}"));
    let what = "expressions are not evaluated here: ${{ params.profile }}";
    let x = "\"${{ params.profile }}\"";
    for (more, field) in [
        (format!("  runner: {x}\n"), "runner"),
        (format!("  shell: [sh, {x}]\n"), "shell"),
        (
            format!("  pod: {{serviceAccountName: {x}}}\n"),
            "pod.serviceAccountName",
        ),
        (
            format!("  pod: {{imagePullSecrets: [{x}]}}\n"),
            "pod.imagePullSecrets",
        ),
        (format!("  approval: {{users: [{x}]}}\n"), "approval.users"),
        (
            format!("  approval: {{groups: [{x}]}}\n"),
            "approval.groups",
        ),
        (
            format!(
                "  services: [{{name: db, image: d, args: [{x}], readiness: {{tcpPort: 1}}}}]\n"
            ),
            "services[0].args",
        ),
    ] {
        let found = with(&more);
        let expected = format!("spec.jobs[1].{field}: {what}; ");
        assert!(found.contains(&expected), "{more}: {found}");
    }
    assert_eq!(with("  shell: [sh, '${{']\n"), "");
}

#[test]
fn a_pod_that_the_api_server_would_refuse_later_is_refused_now() {
    let job = "- name: unit-test\n  image: busybox\n";
    let with = |more: &str| problems(job, &format!("{job}  {more}\n"));
    let at = "spec.jobs[1]";
    for (more, told) in [
        (
            "pod: {resources: {limits: {cpu: lots}}}",
            "pod.resources.limits.cpu: `lots` is no amount; write for example 500m or 2",
        ),
        (
            "pod: {resources: {requests: {memory: '-5'}}}",
            "pod.resources.requests.memory: `-5` is no amount; write for example 512Mi or 8Gi",
        ),
        (
            "pod: {resources: {limits: {memory: 4Gi}, requests: {memory: 8Gi}}}",
            "pod.resources.requests.memory: more memory is requested than the limit allows; \
             lower the request, or raise the limit",
        ),
        (
            "pod: {tolerations: [{operator: Foo}]}",
            "pod.tolerations[0].operator: there is no Foo; write Exists or Equal",
        ),
        (
            "pod: {tolerations: [{effect: NoWay}]}",
            "pod.tolerations[0].effect: there is no NoWay; \
             write NoSchedule or PreferNoSchedule or NoExecute",
        ),
        (
            "services: [{name: d, image: d, readiness: {tcpPort: 1}, resources: {limits: {cpu: x}}}]",
            "services[0].resources.limits.cpu: `x` is no amount; write for example 500m or 2",
        ),
        (
            "retry: {limit: 1, backoff: {base: 10m, cap: 1m}}",
            "retry.backoff.base: the first wait is longer than the longest one; \
             raise cap, or lower base",
        ),
    ] {
        assert_eq!(with(more), format!("{at}.{told}"), "{more}");
    }
    let never = with(
        "pod: {resources: {limits: {memory: 4Gi}}}\n  \
         retry: {limit: 1, onOutOfMemory: {cap: 1Gi}}",
    );
    assert_eq!(
        never,
        format!(
            "{at}.retry.onOutOfMemory.cap: it is not above the job's memory limit, so nothing is \
             ever raised; write more than pod.resources.limits.memory"
        )
    );
    let well = "pod: {resources: {limits: {cpu: 1500m, memory: 1e9}, requests: {cpu: 100u}}}";
    assert_eq!(with(well), "");
}
