//! Local runs: verdicts, outputs, secrets, directories, limits.
//! Must not test how a run looks.

use crate::workspace::{Workspace, example, one_step};

#[test]
fn hello_runs_its_jobs_in_order_and_passes_the_output_on() {
    let ended = Workspace::new().rustci(&["run", &example("hello.yaml"), "--param", "name=Ada"]);
    let ended = ended.with_code(0).has("[greet/say] Hello, Ada!");
    let ended = ended.has("[sweep/report] greet has ended with Succeeded");
    let at = |text: &str| ended.out.find(text).unwrap();
    assert!(
        at("job compose succeeded") < at("job greet running"),
        "{}",
        ended.out
    );
    assert!(
        at("job greet succeeded") < at("job sweep running"),
        "{}",
        ended.out
    );
}

#[test]
fn outputs_of_several_lines_reach_later_jobs() {
    let ended = Workspace::new()
        .rustci(&["run", &example("outputs.yaml")])
        .with_code(0);
    ended
        .has("[announce/print] release v1.4.2")
        .has("[announce/print] second line");
}

#[test]
fn a_diamond_runs_each_job_once() {
    let ended = Workspace::new()
        .rustci(&["run", &example("diamond.yaml")])
        .with_code(0);
    for line in ["top", "left", "right", "bottom"] {
        let count = ended
            .out
            .lines()
            .filter(|found| found.ends_with(&format!("] {line}")))
            .count();
        assert_eq!(count, 1, "{}", ended.out);
    }
}

#[test]
fn a_failed_step_ends_with_1_skips_what_needs_it_and_runs_finally() {
    let ended = Workspace::new()
        .rustci(&["run", &example("failing.yaml")])
        .with_code(1);
    let ended = ended
        .has("job ship skipped")
        .has("[notify/tell] test: Failed");
    ended
        .has("exited with code 3")
        .has("| 1 test failed: the sum")
        .has_not("] never printed");
}

#[test]
fn a_step_that_takes_too_long_ends_with_4_and_finally_runs() {
    let ended = Workspace::new()
        .rustci(&["run", &example("timeout.yaml")])
        .with_code(4);
    ended.has("[sweep/sweep] swept").has("timed out");
}

#[test]
fn the_option_timeout_limits_the_whole_run() {
    let workspace = Workspace::new();
    workspace
        .run(&one_step("sleep 600"), &["--timeout", "1s"])
        .with_code(4);
}

#[test]
fn what_only_a_cluster_has_is_noted_once_and_only_in_text() {
    let workspace = Workspace::new();
    let plain = one_step("true");
    let ended = workspace.run(&plain, &[]).with_code(0);
    assert_eq!(ended.err, "");
    let (head, step) = plain.split_once("  jobs:\n").unwrap();
    let image = step.find("      image:").unwrap();
    let (name, rest) = step.split_at(image);
    let job = |name: &str| format!("{name}      runner: big\n{rest}");
    let second = job(&name.replacen("name: ", "name: second-", 1));
    let pipeline = format!(
        "{head}  concurrency: {{group: forest}}\n  jobs:\n{}{second}",
        job(name)
    );
    let ended = workspace.run(&pipeline, &[]).with_code(0);
    assert_eq!(
        ended.err,
        "note: concurrency groups hold only on a cluster; this run does not wait\n\
         note: runners are only on a cluster; all jobs run on this machine\n"
    );
    let ended = workspace.run(&pipeline, &["--output", "json"]).with_code(0);
    assert_eq!(ended.err, "");
}

#[test]
fn secret_values_are_masked_and_those_of_config_maps_are_not() {
    let ended = Workspace::new()
        .rustci(&["run", &example("secrets.yaml")])
        .with_code(0);
    ended
        .has("token for registry.example.com: ***")
        .has_not("s3cr3t");
}

#[test]
fn secrets_come_from_files_of_their_own_too() {
    let workspace = Workspace::new();
    let text = std::fs::read_to_string(example("secrets.yaml")).unwrap();
    let (secret, rest) = text.split_once("---\n").unwrap();
    workspace.file("secret.yaml", secret);
    let missing = workspace.run(rest, &[]).with_code(1);
    missing
        .has("secret \"registry\" not found")
        .has("--secrets");
    workspace
        .run(rest, &["--secrets", "secret.yaml"])
        .with_code(0)
        .has("***");
}

#[test]
fn each_job_has_an_empty_directory_unless_one_is_given() {
    let workspace = Workspace::new();
    let script = "ls -A | wc -l\npwd";
    workspace
        .run(&one_step(script), &[])
        .with_code(0)
        .has("[fell/saw] 0")
        .has("/work/fell");
    let ended = workspace.run(&one_step("echo made > made-here; pwd"), &["--workdir", "."]);
    let path = workspace.path().canonicalize().unwrap();
    ended
        .with_code(0)
        .has(&format!("[fell/saw] {}\n", path.display()));
    assert!(workspace.path().join("made-here").exists());
}

#[test]
fn no_more_jobs_run_at_once_than_asked_for() {
    let job = |name: &str| {
        format!(
            "  - name: {name}
    image: localhost/busybox:1
    steps: [{{name: s, run: 'mkdir busy; sleep 0.3; rmdir busy'}}]
"
        )
    };
    let head = "apiVersion: rustci.dev/v1alpha1\nkind: Pipeline\nmetadata: {name: copse}\nspec:\n  \
                jobs:\n";
    let pipeline = format!("{head}{}{}{}", job("a"), job("b"), job("c"));
    let workspace = Workspace::new();
    workspace
        .run(&pipeline, &["--workdir", ".", "--max-parallel", "1"])
        .with_code(0);
    workspace
        .run(&pipeline, &["--workdir", ".", "--max-parallel", "3"])
        .with_code(1);
}

#[test]
fn a_run_of_the_file_runs_its_own_pipeline() {
    let run = "apiVersion: rustci.dev/v1alpha1
kind: PipelineRun
metadata: {generateName: copse-}
spec:
  params: [{name: count, value: 3}]
  pipelineSpec:
    params: [{name: count, type: integer}]
    jobs:
    - name: fell
      image: localhost/busybox:1
      env: [{name: COUNT, value: '${{ params.count + 1 }}'}]
      steps: [{name: saw, run: 'echo trees $COUNT'}]
";
    Workspace::new()
        .run(run, &[])
        .with_code(0)
        .has("[fell/saw] trees 4");
}

#[test]
fn wrong_parameters_end_with_2_before_anything_runs() {
    let workspace = Workspace::new();
    let example = example("git-build.yaml");
    let missing = workspace.rustci(&["run", &example]).with_code(2);
    assert!(
        missing.err.contains("`url`") || missing.err.contains("\"url\""),
        "{}",
        missing.err
    );
    let unknown = workspace
        .rustci(&["run", &example, "--param", "urn=x"])
        .with_code(2);
    assert!(
        unknown.err.contains("did you mean `url`?"),
        "{}",
        unknown.err
    );
    assert!(!workspace.path().join(".rustci").exists());
}

#[test]
fn a_pipeline_with_mistakes_is_refused_with_their_places() {
    let ended = Workspace::new()
        .rustci(&["run", &example("with-mistake.yaml")])
        .with_code(2);
    for text in ["with-mistake.yaml:12:", "biuld", "flavor", "5 minutes"] {
        assert!(ended.err.contains(text), "no `{text}` in\n{}", ended.err);
    }
}

#[test]
fn every_line_of_a_large_log_is_shown_once() {
    let ended = Workspace::new()
        .run(&one_step("seq 1 200000"), &[])
        .with_code(0);
    let lines = ended
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("[fell/saw] "));
    assert!(lines.eq((1..=200_000).map(|number| number.to_string())));
}

#[test]
fn only_the_last_runs_are_kept() {
    let workspace = Workspace::new();
    for _ in 0..22 {
        workspace.run(&one_step("true"), &[]).with_code(0);
    }
    let count = |path: &str| {
        std::fs::read_dir(workspace.path().join(path))
            .unwrap()
            .count()
    };
    assert_eq!(
        (count(".rustci/runs"), count(".rustci/logs/local")),
        (20, 20)
    );
}
