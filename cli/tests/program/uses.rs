//! Jobs and templates of other files, as users run, check and plan them on this machine.
//! Must not test single mistakes: the suite of `lint` does.

use serde_json::Value;

use crate::workspace::Workspace;

const SHARED: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: shared}
spec:
  params: [{name: word, default: hush}]
  stepTemplates:
    - name: say
      inputs: [{name: word}]
      steps: [{name: aloud, run: 'echo \"said $WORD\"', env: [{name: WORD, value: '${{ inputs.word }}'}]}]
  jobs:
    - name: tell
      image: ladder
      steps: [{name: t, uses: {template: say}, with: [{name: word, value: '${{ params.word }}'}]}]
";

const USER: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: user}
spec:
  params: [{name: tree, default: birch}]
  jobs:
    - name: one
      uses: {pipeline: shared, job: tell}
      with: [{name: word, value: '${{ params.tree }}'}]
";

#[test]
fn a_pipeline_in_a_file_beside_it_is_used() {
    let workspace = Workspace::new();
    workspace.file("shared.yaml", SHARED);
    let file = workspace.file("user.yaml", USER);
    workspace.rustci(&["lint", &file]).with_code(0);
    let ended = workspace
        .rustci(&["run", &file, "-p", "tree=$(reboot)"])
        .with_code(0);
    ended.has("[one/t.aloud] said $(reboot)");
    let plan = workspace.rustci(&["plan", &file]).with_code(0);
    plan.has("one = shared/tell").has("t.aloud");
    let json = workspace
        .rustci(&["plan", &file, "-o", "json"])
        .with_code(0);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["jobs"][0]["uses"], "shared/tell");
    assert_eq!(json["jobs"][0]["steps"][0], "t.aloud");
}

#[test]
fn a_pipeline_of_another_folder_needs_the_library_option() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path().join("lib")).unwrap();
    workspace.file("lib/shared.yaml", SHARED);
    let file = workspace.file("user.yaml", USER);
    let refused = workspace.rustci(&["run", &file]).with_code(2);
    assert!(
        refused.err.contains("user.yaml:8:24: ") && refused.err.contains("no Pipeline `shared`"),
        "{}",
        refused.err
    );
    for command in ["lint", "plan", "run"] {
        for library in ["lib", "lib/shared.yaml"] {
            workspace
                .rustci(&[command, &file, "--library", library])
                .with_code(0);
        }
    }
}

#[test]
fn a_retry_is_refused_when_what_it_uses_has_changed() {
    let workspace = Workspace::new();
    let failing = SHARED.replace("run: 'echo \"said $WORD\"'", "run: 'test -e ../ready'");
    workspace.file("shared.yaml", &failing);
    let file = workspace.file("user.yaml", USER);
    let ended = workspace.rustci(&["run", &file, "-o", "json"]).with_code(1);
    let last = ended.out.lines().last().unwrap_or_default();
    let last: Value = serde_json::from_str(last).unwrap();
    let run = last["run"]["metadata"]["name"].as_str().unwrap().to_owned();
    let used = &last["run"]["status"]["pipeline"]["used"][0];
    assert_eq!(used["pipeline"], "shared");
    assert!(used["digest"].as_str().unwrap().starts_with("sha256:"));
    workspace.rustci(&["retry", &run]).with_code(1);
    workspace.file("shared.yaml", SHARED);
    let refused = workspace.rustci(&["retry", &run]).with_code(2);
    assert!(
        refused.err.contains("pipeline.used.shared"),
        "{}",
        refused.err
    );
    workspace
        .rustci(&["retry", &run, "--force"])
        .with_code(0)
        .has("said birch");
}
