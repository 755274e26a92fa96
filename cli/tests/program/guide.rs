//! The examples of the user guide: each is run on this machine, with the outcome that its first
//! lines say, and each that a chapter shows is a file.
//! Must not run what the guide does not show.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::workspace::{Ended, Workspace};

/// Outcome of an example that only a cluster can run.
const REFUSED: &str = "refused";

/// What the first lines of an example say.
struct Expected {
    options: Vec<String>,
    outcome: String,
    prints: Vec<String>,
    hides: Vec<String>,
}

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide")
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no .{ending} in {}", folder.display());
    paths
}

fn expected(text: &str) -> Expected {
    let words = |name: &str| -> Vec<String> {
        let head = text.lines().take_while(|line| line.starts_with("# "));
        head.filter_map(|line| line.strip_prefix(&format!("# {name}: ")))
            .map(str::to_owned)
            .collect()
    };
    Expected {
        options: words("options")
            .iter()
            .flat_map(|options| options.split_whitespace().map(str::to_owned))
            .collect(),
        outcome: words("outcome").pop().expect("an example says its outcome"),
        prints: words("prints"),
        hides: words("hides"),
    }
}

fn run(workspace: &Workspace, file: &Path, options: &[String], output: &str) -> Ended {
    let file = file.to_str().unwrap();
    let options = options.iter().map(String::as_str);
    let arguments: Vec<&str> = ["run", file, "-o", output]
        .into_iter()
        .chain(options)
        .collect();
    workspace.rustci(&arguments)
}

/// The words of the last event of a run, which has its outcome.
fn outcome(ended: &Ended) -> String {
    let last = ended.out.lines().last().unwrap_or_default();
    let event: Value = serde_json::from_str(last).unwrap_or_default();
    event["result"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn each_example_ends_as_it_says() {
    for file in files(&guide().join("examples"), "yaml") {
        let text = fs::read_to_string(&file).unwrap();
        let expected = expected(&text);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let workspace = Workspace::new();
        let shown = run(&workspace, &file, &expected.options, "text");
        assert!(
            !expected.prints.is_empty(),
            "{name}: says nothing of what it prints"
        );
        if expected.outcome == REFUSED {
            // It is for a cluster; here it ends before anything runs.
            let refused = shown.with_code(2);
            for words in &expected.prints {
                assert!(refused.err.contains(words), "{name}: {}", refused.err);
            }
            assert!(refused.out.is_empty(), "{name}: {}", refused.out);
            continue;
        }
        for words in &expected.prints {
            assert!(
                shown.out.contains(words),
                "{name}: no `{words}` in\n{}{}",
                shown.out,
                shown.err
            );
        }
        for words in &expected.hides {
            assert!(
                text.contains(words),
                "{name}: `{words}` is not in the example"
            );
            assert!(
                !shown.out.contains(words),
                "{name}: `{words}` in\n{}",
                shown.out
            );
        }
        let ended = run(&workspace, &file, &expected.options, "json");
        assert_eq!(
            outcome(&ended),
            expected.outcome,
            "{name}:\n{}{}",
            ended.out,
            ended.err
        );
    }
}

#[test]
fn each_example_passes_the_check_and_has_a_plan() {
    let workspace = Workspace::new();
    let folder = guide().join("examples");
    workspace
        .rustci(&["lint", folder.to_str().unwrap()])
        .with_code(0);
    for file in files(&folder, "yaml") {
        let options = expected(&fs::read_to_string(&file).unwrap()).options;
        let mut arguments = vec!["plan", file.to_str().unwrap()];
        // The other options are about running.
        let of_plan = |pair: &&[String]| ["-p", "--pipeline"].contains(&pair[0].as_str());
        let params = options.chunks(2).filter(of_plan);
        arguments.extend(params.flatten().map(String::as_str));
        workspace.rustci(&arguments).with_code(0).has("WAVE");
    }
}

/// A block of YAML in a chapter is a part of the example that the line before it names.
#[test]
fn each_example_in_a_chapter_is_a_part_of_its_file_and_each_file_has_a_chapter() {
    let mut named = Vec::new();
    for chapter in files(&guide(), "md") {
        let text = fs::read_to_string(&chapter).unwrap();
        let mut blocks = text.split("```yaml\n");
        let mut before = blocks.next().unwrap_or_default();
        for block in blocks {
            let (yaml, after) = block.split_once("```").unwrap();
            let line = before.trim_end().lines().last().unwrap_or_default();
            let start = line
                .find("(examples/")
                .expect("the line before a block names its file");
            let path = line[start + 1..].split(')').next().unwrap();
            let example = fs::read_to_string(guide().join(path)).unwrap();
            assert!(
                example.contains(yaml),
                "{}: not in {path}:\n{yaml}",
                chapter.display()
            );
            named.push(path.trim_start_matches("examples/").to_owned());
            before = after;
        }
    }
    for file in files(&guide().join("examples"), "yaml") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(named.contains(&name), "{name}: no chapter shows it");
    }
}

#[test]
fn links_between_the_chapters_lead_to_files() {
    for chapter in files(&guide(), "md") {
        let text = fs::read_to_string(&chapter).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = guide().join(target);
            assert!(path.exists(), "{}: no {target}", chapter.display());
        }
    }
}
