//! Jobs that wait for people, in local runs: options, a terminal, and neither.
//! Must not test who may answer in a cluster.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::workspace::{Ended, Workspace};

const PIPELINE: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: copse}
spec:
  jobs:
    - name: fell
      image: localhost/busybox:1
      steps: [{name: saw, run: echo felled}]
    - name: ship
      needs: [fell]
      image: localhost/busybox:1
      approval: {groups: [foresters], message: \"Ship ${{ pipeline.name }}?\"}
      steps: [{name: load, run: echo shipped}]
    - name: sell
      needs: [ship]
      image: localhost/busybox:1
      steps: [{name: sign, run: echo sold}]
";

#[test]
fn an_option_approves_a_job_before_it_asks() {
    for option in [["--approve", "ship"].as_slice(), &["--approve-all"]] {
        let ended = Workspace::new().run(PIPELINE, option).with_code(0);
        ended.has("[ship/load] shipped").has("[sell/sign] sold");
    }
}

#[test]
fn without_a_terminal_the_job_fails_and_says_what_to_do() {
    let workspace = Workspace::new();
    let ended = workspace.run(PIPELINE, &[]).with_code(1);
    ended
        .has("[fell/saw] felled")
        .has("rejected by rustci: there is no terminal to ask on")
        .has("`--approve ship`")
        .has("job sell skipped")
        .has_not("] shipped");
    let told = workspace.rustci(&["explain"]).with_code(0);
    told.has("job ship failed: Rejected (User)")
        .has("what to do: run it again and approve the job");
}

#[test]
fn an_option_for_a_job_that_does_not_ask_is_a_mistake() {
    let workspace = Workspace::new();
    let ended = workspace.run(PIPELINE, &["--approve", "fell"]).with_code(2);
    let words = "--approve fell: no job of this name asks for approval; those that do: ship";
    assert!(ended.err.contains(words), "{}", ended.err);
}

#[test]
fn nobody_answers_in_time_and_the_run_times_out() {
    let pipeline = PIPELINE.replace("approval: {", "approval: {timeout: 1s, ");
    let ended = at_a_terminal(&Workspace::new(), &pipeline, None);
    ended
        .with_code(4)
        .has("nobody approved it within 1s")
        .has_not("] shipped");
}

#[test]
fn a_terminal_is_asked_and_yes_approves() {
    let ended = at_a_terminal(&Workspace::new(), PIPELINE, Some("y\n"));
    ended
        .with_code(0)
        .has("job ship waits for approval: Ship copse?")
        .has("[y/N]")
        .has("shipped");
}

#[test]
fn a_terminal_is_asked_and_anything_else_rejects() {
    let ended = at_a_terminal(&Workspace::new(), PIPELINE, Some("\n"));
    ended
        .with_code(1)
        .has("job ship waits for approval: Ship copse?")
        .has("rejected by ann")
        .has_not("] shipped");
}

/// Runs a pipeline at a terminal of its own, at which this is typed; with nothing to type it stays
/// open.
fn at_a_terminal(workspace: &Workspace, pipeline: &str, typed: Option<&str>) -> Ended {
    let file = workspace.file("pipeline.yaml", pipeline);
    let rustci = env!("CARGO_BIN_EXE_rustci");
    let mut script = Command::new("script")
        .args([
            "-q",
            "-e",
            "-c",
            &format!("'{rustci}' run {file}"),
            "/dev/null",
        ])
        .current_dir(workspace.path())
        .env("NO_COLOR", "1")
        .env("USER", "ann")
        .env("HOME", workspace.path())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("util-linux has the program script");
    let mut keyboard = script.stdin.take().unwrap();
    if let Some(typed) = typed {
        keyboard.write_all(typed.as_bytes()).unwrap();
    }
    // The keyboard stays until the program has ended: an end of the input is another answer.
    let output = script.wait_with_output().unwrap();
    drop(keyboard);
    Ended::from(output)
}
