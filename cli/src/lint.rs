//! `rustci lint`: what is wrong in files, and where, with the API server's verdicts.
//! Must not talk to a cluster, nor decide about exit codes.

mod document;
mod render;
mod scalar;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::render::{json, text};

/// What is wrong at one place.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The field, such as `spec.jobs[2].name`; empty for a mistake in the YAML itself.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do; empty when the message says it.
    pub remedy: String,
    /// The line of the file; empty when there is none.
    #[serde(skip)]
    pub source: String,
}

/// The result for all files.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// What is wrong, by file and line.
    pub findings: Vec<Finding>,
    /// Documents of our kinds that were checked.
    pub checked: usize,
    /// Documents that were passed over, and why.
    pub notes: Vec<String>,
}

impl Report {
    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Checks files of YAML documents; of a folder, its `.yaml` and `.yml` files. Documents of other
/// kinds are passed over with a note.
pub fn lint(paths: &[PathBuf]) -> Report {
    let mut report = Report::default();
    for path in paths {
        match files(path) {
            Ok(files) => files.iter().for_each(|file| lint_file(file, &mut report)),
            Err(error) => report.findings.push(unreadable(path, &error)),
        }
    }
    report
}

/// Checks the text of one file.
pub fn lint_text(file: &str, text: &str) -> Report {
    let mut report = Report::default();
    let documents = tree::parse(text);
    let mut found = Vec::new();
    for document in documents {
        match document {
            Ok(document) => match document::check(&document) {
                document::Outcome::Checked(problems) => {
                    report.checked += 1;
                    found.extend(problems);
                }
                document::Outcome::PassedOver(why) => {
                    report
                        .notes
                        .push(format!("{file}:{}: {why}", document.line()));
                }
                document::Outcome::Empty => {}
            },
            Err(problem) => found.push(problem),
        }
    }
    found.sort_by_key(|problem| (problem.line, problem.column));
    let lines: Vec<&str> = text.lines().collect();
    report.findings = found
        .into_iter()
        .map(|problem| Finding {
            file: file.to_owned(),
            source: lines
                .get(problem.line - 1)
                .copied()
                .unwrap_or_default()
                .to_owned(),
            line: problem.line,
            column: problem.column,
            field: problem.field,
            message: problem.message,
            remedy: problem.remedy,
        })
        .collect();
    report
}

/// A mistake with its place in the text; line and column from 1.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Problem {
    line: usize,
    column: usize,
    field: String,
    message: String,
    remedy: String,
}

fn lint_file(path: &Path, report: &mut Report) {
    match fs::read_to_string(path) {
        Ok(text) => {
            let found = lint_text(&path.display().to_string(), &text);
            report.findings.extend(found.findings);
            report.checked += found.checked;
            report.notes.extend(found.notes);
        }
        Err(error) => report.findings.push(unreadable(path, &error)),
    }
}

fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if file
            .extension()
            .is_some_and(|kind| kind == "yaml" || kind == "yml")
        {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Finding {
    Finding {
        file: path.display().to_string(),
        line: 1,
        column: 1,
        field: String::new(),
        message: format!("cannot read the file: {error}"),
        remedy: "check the path, and that the file is text in UTF-8".into(),
        source: String::new(),
    }
}

#[cfg(test)]
mod tests;
