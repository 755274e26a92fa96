//! Usage: wrong options, lint, completion, the plugin's name.
//! Must not run pipelines.

use std::process::Command;

use crate::workspace::{Workspace, example};

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    let workspace = Workspace::new();
    let ended = workspace.rustci(&["run"]).with_code(2);
    assert!(ended.err.contains("<FILE>"), "{}", ended.err);
    let ended = workspace
        .rustci(&["run", "x.yaml", "--param", "novalue"])
        .with_code(2);
    assert!(ended.err.contains("NAME=VALUE"), "{}", ended.err);
    let ended = workspace
        .rustci(&["run", "x.yaml", "--timeout", "5 minutes"])
        .with_code(2);
    assert!(ended.err.contains("5 minutes"), "{}", ended.err);
    let ended = workspace.rustci(&["run", "not-there.yaml"]).with_code(2);
    assert!(ended.err.contains("not-there.yaml"), "{}", ended.err);
    let file = workspace.file(
        "empty.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}",
    );
    let ended = workspace.rustci(&["run", &file]).with_code(2);
    assert!(ended.err.contains("no Pipeline"), "{}", ended.err);
}

#[test]
fn a_missing_workdir_is_named() {
    let options = ["run", &example("hello.yaml"), "--workdir", "nowhere"];
    let ended = Workspace::new().rustci(&options).with_code(2);
    assert!(ended.err.contains("--workdir nowhere"), "{}", ended.err);
}

#[test]
fn every_example_but_the_one_with_mistakes_is_clean() {
    let workspace = Workspace::new();
    for entry in std::fs::read_dir(example("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let code = if name == "with-mistake.yaml" { 2 } else { 0 };
        workspace.rustci(&["lint", &example(&name)]).with_code(code);
    }
}

#[test]
fn lint_tells_places_also_as_json() {
    let file = example("with-mistake.yaml");
    let ended = Workspace::new()
        .rustci(&["lint", &file, "-o", "json"])
        .with_code(2);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["findings"][0]["line"], 12, "{}", ended.out);
}

#[test]
fn each_shell_has_a_completion_script() {
    for shell in ["bash", "zsh", "fish"] {
        Workspace::new()
            .rustci(&["completion", shell])
            .with_code(0)
            .has("rustci")
            .has("lint");
    }
}

#[test]
fn as_a_plugin_of_kubectl_it_goes_by_that_name() {
    let workspace = Workspace::new();
    let link = workspace.path().join("kubectl-rustci");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rustci"), &link).unwrap();
    let output = Command::new(link)
        .arg("get")
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Usage: kubectl rustci get"), "{text}");
}

#[test]
fn without_a_cluster_the_cluster_commands_say_so() {
    let ended = Workspace::new().rustci(&["get"]).with_code(2);
    assert!(ended.err.contains("KUBECONFIG"), "{}", ended.err);
}

/// `RUSTCI_BLESS=1 cargo test -p cli` writes the page anew.
#[test]
fn the_page_of_commands_in_the_guide_is_what_help_says() {
    let workspace = Workspace::new();
    let help = |arguments: &[&str]| workspace.rustci(arguments).with_code(0).out;
    let all = help(&["--help"]);
    let commands = all.split("Commands:\n").nth(1).unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    // Continued lines of a description stand further to the right.
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("    "));
    let mut page = format!("# Commands\n\nWhat `rustci --help` says.\n\n```text\n{all}```\n");
    let mut count = 0;
    for name in names.filter_map(|line| line.split_whitespace().next()) {
        let text = help(&[name, "--help"]);
        page.push_str(&format!("\n## rustci {name}\n\n```text\n{text}```\n"));
        count += 1;
    }
    assert!(count >= 9, "{all}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/commands.md");
    if std::env::var_os("RUSTCI_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == page,
        "docs/guide/commands.md is stale: RUSTCI_BLESS=1 cargo test -p cli"
    );
}
