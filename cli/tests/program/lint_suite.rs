//! The suite of good and bad files in `tests/lint`: what `rustci lint` says of each, word for word.
//! Must not judge single words: the golden files beside the bad ones hold them.
//!
//! `RUSTCI_BLESS=1 cargo test -p cli` writes the golden files anew.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::workspace::Ended;

/// Examples of the schemas' rules and files of this suite; fewer would mean that some got lost.
const LEAST_FILES: usize = 210;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/lint")
        .join(name)
}

fn cases(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".yaml")).collect();
    names.sort();
    names
}

/// The program in the folder of the case, so that the file's name is the same everywhere.
fn lint(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rustci"));
    command.arg("lint").args(arguments).current_dir(folder);
    Ended::from(command.output().unwrap())
}

#[test]
fn good_files_are_taken() {
    let folder = folder("good");
    let cases = cases(&folder);
    let names: Vec<&str> = cases.iter().map(String::as_str).collect();
    lint(&folder, &names).with_code(0).has("nothing wrong");
    for name in names {
        lint(&folder, &[name])
            .with_code(0)
            .has("checked, nothing wrong");
    }
}

#[test]
fn bad_files_are_refused_with_the_words_of_their_golden_files() {
    let folder = folder("bad");
    let bless = std::env::var_os("RUSTCI_BLESS").is_some();
    let mut wrong = Vec::new();
    for name in cases(&folder) {
        let said = lint(&folder, &[&name]).with_code(2).out;
        let golden = folder.join(&name).with_extension("txt");
        if bless {
            fs::write(&golden, &said).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            wrong.push(format!("--- {name}: expected\n{expected}--- got\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_golden_file_has_its_case_and_shows_place_and_remedy() {
    let folder = folder("bad");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(
            path.with_extension("yaml").exists(),
            "{}: no case",
            path.display()
        );
        if path.extension().is_some_and(|kind| kind == "yaml") {
            continue;
        }
        let name = path.with_extension("yaml");
        let name = name.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let findings = text.lines().filter(|line| line.starts_with(name));
        let mut count = 0;
        for finding in findings {
            count += 1;
            let place = finding.strip_prefix(name).unwrap();
            let numbers: Vec<_> = place.split(':').skip(1).take(2).collect();
            assert!(
                numbers
                    .iter()
                    .all(|n| n.parse::<u32>().is_ok_and(|n| n > 0)),
                "{finding}"
            );
            let is_told = finding.contains("; ") || finding.contains(": set ");
            assert!(is_told, "{}: no remedy: {finding}", path.display());
        }
        assert!(count > 0, "{}: no finding", path.display());
    }
}

#[test]
fn the_suites_have_all_their_files() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples");
    let of_rules: usize = ["accepted", "refused", "updates/accepted", "updates/refused"]
        .iter()
        .map(|part| cases(&examples.join(part)).len())
        .sum();
    let here = cases(&folder("good")).len() + cases(&folder("bad")).len();
    assert!(of_rules + here >= LEAST_FILES, "{of_rules} and {here}");
}

#[test]
fn several_files_and_folders_are_one_report_in_every_form() {
    let folder = folder("");
    let arguments = [
        "good/diamond.yaml",
        "bad/needs-near.yaml",
        "bad/yaml-tab.yaml",
    ];
    let ended = lint(&folder, &arguments).with_code(2);
    ended.has("2 documents checked, 2 mistakes");
    let json = lint(&folder, &[&arguments[..], &["-o", "json"]].concat()).with_code(2);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["findings"][0]["rule"], "pipeline");
    assert_eq!(json["findings"][1]["rule"], "yaml");
    let sarif = lint(&folder, &["bad", "--output", "sarif"]).with_code(2);
    let sarif: Value = serde_json::from_str(&sarif.out).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert!(results.len() >= cases(&folder.join("bad")).len());
    for result in results {
        let region = &result["locations"][0]["physicalLocation"]["region"];
        let number = |name: &str| region[name].as_u64().unwrap();
        assert!(
            number("startLine") > 0 && number("startColumn") > 0,
            "{result}"
        );
        assert!(number("endColumn") >= number("startColumn"), "{result}");
    }
}

#[test]
fn standard_input_is_checked_as_a_file_named_stdin() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rustci"));
    command
        .args(["lint", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let text = fs::read(folder("bad/needs-near.yaml")).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap()).with_code(2);
    ended.has("stdin:11:15: spec.jobs[1].needs[0]: ");
}
