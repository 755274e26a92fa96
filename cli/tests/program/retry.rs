//! `rustci retry` on this machine: the chapter of the guide, and what is refused.
//! Must not test which jobs are taken over in each case: the planner's tests do.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::{Ended, Workspace, one_step};

fn guide(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/guide")
        .join(file)
}

/// The name in the first line of a run's output.
fn name(ended: &Ended) -> String {
    let mut words = ended.out.split_whitespace();
    assert_eq!(words.next(), Some("run"), "{}{}", ended.out, ended.err);
    words.next().unwrap().to_owned()
}

/// Without the names and times that differ from run to run.
fn plain(text: &str, names: &[&str]) -> String {
    let mut text = text.to_owned();
    for name in names {
        let stem = name.rsplit_once('-').unwrap().0;
        text = text.replace(name, &format!("{stem}-NAME"));
    }
    let is_time = |word: &str| {
        let number = word.trim_end_matches(':').strip_suffix('s');
        number.is_some_and(|number| number.parse::<f64>().is_ok())
    };
    let line = |line: &str| {
        let words = line.split(' ').map(|word| match is_time(word) {
            true if word.ends_with(':') => "TIME:",
            true => "TIME",
            false => word,
        });
        words.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_run_that_failed_is_run_again_as_the_guide_shows() {
    let workspace = Workspace::new();
    let file = workspace.path().join("run-again.yaml");
    fs::copy(guide("examples/run-again.yaml"), file).unwrap();
    let first = workspace
        .rustci(&["run", "run-again.yaml", "--workdir", "."])
        .with_code(1);
    let first = name(&first);
    workspace.file("licence.txt", "");
    let second = workspace
        .rustci(&["retry", &first, "--failed"])
        .with_code(0);
    let shown = plain(&second.out, &[&first, &name(&second)]);
    let shown = shown.split("\n\n").next().unwrap();
    let chapter = fs::read_to_string(guide("10-run-again.md")).unwrap();
    assert!(
        chapter.contains(&format!("```text\n{shown}\n```")),
        "{shown}"
    );
    // The run that took jobs over can itself be retried, from a job on.
    let third = workspace
        .rustci(&["retry", &name(&second), "--from", "ship"])
        .with_code(0);
    third
        .has(&format!("taken over from the run `{first}`"))
        .has(&format!("taken over from the run `{}`", name(&second)))
        .has("shipped 1.4");
}

#[test]
fn a_retry_is_refused_before_anything_starts() {
    let workspace = Workspace::new();
    let first = workspace.run(&one_step("exit 1"), &[]).with_code(1);
    let first = name(&first);
    let refused = |arguments: &[&str], text: &str| {
        let ended = workspace.rustci(&[&["retry", &first], arguments].concat());
        let ended = ended.with_code(2);
        assert!(ended.err.contains(text), "{}", ended.err);
        assert_eq!(ended.out, "");
    };
    refused(&["--from", "fel"], "did you mean `fell`?");
    refused(&["--failed", "--from", "fell"], "cannot be used with");
    workspace.file("pipeline.yaml", &one_step("true"));
    refused(
        &["--failed"],
        "`pipeline.spec.jobs[0].steps[0].run` is not what it was",
    );
    let forced = workspace.rustci(&["retry", &first, "--failed", "--force"]);
    let second = name(&forced.with_code(0));
    let ended = workspace
        .rustci(&["retry", &second, "--failed"])
        .with_code(2);
    assert!(ended.err.contains("every job of the run"), "{}", ended.err);
    fs::remove_file(workspace.path().join("pipeline.yaml")).unwrap();
    refused(&[], "pipeline.yaml");
    // What this directory does not have is looked for in the cluster.
    let ended = workspace.rustci(&["retry", "elsewhere"]).with_code(2);
    assert!(ended.err.contains("KUBECONFIG"), "{}", ended.err);
}

#[test]
fn a_run_without_an_end_has_nothing_to_take_over() {
    let workspace = Workspace::new();
    let ended = name(&workspace.run(&one_step("true"), &[]).with_code(0));
    let folder = workspace.path().join(".rustci/runs").join(&ended);
    fs::remove_file(folder.join("run.yaml")).unwrap();
    let refused = workspace.rustci(&["retry", &ended]).with_code(2);
    assert!(
        refused.err.contains("did not come to its end"),
        "{}",
        refused.err
    );
    let lock = fs::File::open(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let refused = workspace.rustci(&["retry", &ended]).with_code(2);
    assert!(refused.err.contains("still goes on"), "{}", refused.err);
}
