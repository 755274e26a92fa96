//! `plan` and `explain` as users run them, without a cluster.
//! Must not test single words of explanations: the library's tests do.

use serde_json::Value;

use crate::workspace::{Workspace, example, one_step};

#[test]
fn a_plan_shows_the_jobs_in_waves_and_runs_nothing() {
    let workspace = Workspace::new();
    let file = example("diamond.yaml");
    let ended = workspace.rustci(&["plan", &file]).with_code(0);
    ended.has("WAVE   JOB").has("\n2      ");
    let json = workspace
        .rustci(&["plan", &file, "-o", "json"])
        .with_code(0);
    let plan: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(plan["jobs"][0]["wave"], 1);
    let graph = workspace
        .rustci(&["plan", &file, "-o", "mermaid"])
        .with_code(0);
    graph.has("flowchart LR").has("-->");
    assert!(!workspace.path().join(".rustci").exists());
}

#[test]
fn a_plan_of_a_file_with_a_mistake_is_refused_with_its_report() {
    let workspace = Workspace::new();
    let ended = workspace
        .rustci(&["plan", &example("with-mistake.yaml")])
        .with_code(2);
    assert!(ended.err.contains("with-mistake.yaml:"), "{}", ended.err);
}

#[test]
fn a_failed_local_run_is_explained_with_the_end_of_its_log() {
    let workspace = Workspace::new();
    workspace
        .run(
            &one_step("echo before\necho the blade is dull >&2\nexit 7"),
            &[],
        )
        .with_code(1);
    let ended = workspace.rustci(&["explain"]).with_code(0);
    let ended = ended
        .has("of pipeline copse: Failed")
        .has("job fell failed");
    let ended = ended
        .has("step saw ended with exit code 7")
        .has("    | the blade is dull");
    let name = ended.out.split_whitespace().nth(1).unwrap().to_owned();
    let json = workspace
        .rustci(&["explain", &name, "-o", "json"])
        .with_code(0);
    let explained: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(explained["run"], name.as_str());
    assert_eq!(explained["jobs"][0]["step"]["log"][0], "before");
}

#[test]
fn a_local_run_that_succeeded_has_nothing_wrong() {
    let workspace = Workspace::new();
    workspace.run(&one_step("true"), &[]).with_code(0);
    workspace
        .rustci(&["explain"])
        .with_code(0)
        .has("nothing is wrong");
}

#[test]
fn without_any_run_the_user_is_told_how_to_name_one() {
    let workspace = Workspace::new();
    let ended = workspace.rustci(&["explain"]).with_code(2);
    assert!(ended.err.contains("`rustci get` lists"), "{}", ended.err);
    // A name that is no local run is asked for in the cluster, and there is none here.
    workspace.rustci(&["explain", "../elsewhere"]).with_code(2);
}
