//! `rustci lint`: what is wrong in files, and where, with the API server's verdicts.
//! Must not talk to a cluster, nor decide about exit codes.

mod document;
mod origin;
mod render;
mod sarif;
mod scalar;
mod services;
mod span;
pub(crate) mod tree;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::failure::Failure;
use crate::library::{Pipelines, Shelf};

pub use self::render::{json, text, words};
pub use self::sarif::sarif;
pub use self::services::refuse_services;
pub use self::span::Source;

/// The name that stands for standard input.
pub const STDIN: &str = "-";
/// How findings in standard input name their file.
const STDIN_NAME: &str = "stdin";
/// Largest file that is read, in bytes: more than the largest object that an API server takes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Which check has found a mistake.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The file can't be read.
    File,
    /// It is no right YAML.
    #[default]
    Yaml,
    /// The API server's schema: fields, types, bounds.
    Schema,
    /// The API server's rules in CEL.
    Cel,
    /// What the planner knows of whole pipelines: needs, expressions, times.
    Pipeline,
}

/// What is wrong at one place.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Column after the last character that is wrong.
    pub end_column: usize,
    /// The field, such as `spec.jobs[2].name`; empty for a mistake in the YAML itself.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do; empty when the message says it.
    pub remedy: String,
    /// Which check has found it.
    pub rule: Rule,
    /// The line of the file; empty when there is none.
    #[serde(skip)]
    pub source: Source,
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

/// Checks files of YAML documents; of a folder, its `.yaml` and `.yml` files and those of the
/// folders in it; `-` is standard input. Documents of other kinds are passed over with a note. What
/// pipelines use is looked for on the shelf.
pub fn lint(paths: &[PathBuf], shelf: &Shelf) -> Report {
    let mut report = Report::default();
    for path in paths {
        match files(path) {
            Ok(files) => (files.iter()).for_each(|file| lint_file(file, shelf, &mut report)),
            Err(error) => report.findings.push(unreadable(path, &error)),
        }
    }
    report
}

/// Refuses a file with mistakes, with its report.
pub fn refuse_mistakes(file: &Path, shelf: &Shelf) -> Result<(), Failure> {
    let report = lint(&[file.to_owned()], shelf);
    if report.is_clean() {
        return Ok(());
    }
    let text = text(&report, false);
    Err(Failure::usage(format!(
        "{} has mistakes\n{}",
        file.display(),
        text.trim_end()
    )))
}

/// Checks the text of one file, and what its pipelines use of others.
pub fn lint_text(file: &str, text: &str, others: &Pipelines) -> Report {
    let mut report = Report::default();
    let documents = tree::parse(text);
    let library = others.library();
    let mut found = Vec::new();
    for document in documents {
        match document {
            Ok(document) => match document::check(text, &document, &library) {
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
    // What is no right YAML at a place makes what the schema says there an echo.
    found.dedup_by(|later, first| {
        first.rule == Rule::Yaml && (later.line, later.column) == (first.line, first.column)
    });
    let lines: Vec<&str> = text.lines().collect();
    let found = found.into_iter();
    report.findings = found
        .map(|problem| finding(file, &lines, problem))
        .collect();
    report
}

/// A mistake with its line of the file.
fn finding(file: &str, lines: &[&str], problem: Problem) -> Finding {
    let line = problem.line.checked_sub(1).and_then(|line| lines.get(line));
    let source = line.copied().unwrap_or_default();
    Finding {
        file: file.to_owned(),
        line: problem.line,
        column: problem.column,
        end_column: span::end(source, problem.column),
        field: problem.field,
        message: problem.message,
        remedy: problem.remedy,
        rule: problem.rule,
        source: Source::new(source, problem.column),
    }
}

/// A mistake with its place in the text; line and column from 1.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Problem {
    line: usize,
    column: usize,
    field: String,
    message: String,
    remedy: String,
    rule: Rule,
}

fn lint_file(path: &Path, shelf: &Shelf, report: &mut Report) {
    match read(path) {
        Ok(text) => {
            let name = match is_stdin(path) {
                true => STDIN_NAME.to_owned(),
                false => path.display().to_string(),
            };
            let found = lint_text(&name, &text, &shelf.around(path, &text));
            report.findings.extend(found.findings);
            report.checked += found.checked;
            report.notes.extend(found.notes);
        }
        Err(error) => report.findings.push(unreadable(path, &error)),
    }
}

/// True for the name that stands for standard input.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == STDIN
}

/// The text of a file, or of standard input.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let count = match is_stdin(path) {
        true => io::stdin().take(MAX_BYTES + 1).read_to_string(&mut text)?,
        false => File::open(path)?
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)?,
    };
    if count as u64 > MAX_BYTES {
        let message = format!("it has more than {} MiB", MAX_BYTES >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// The file itself, or the YAML files of a folder. Hidden folders and links to folders are left
/// out.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if is_stdin(path) || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_dir() && !hidden {
                open.push(path);
            } else if path.is_file() && is_yaml(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// True for a file that a folder's check looks at.
pub fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|kind| kind == "yaml" || kind == "yml")
}

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    Finding {
        file: path.display().to_string(),
        line: 1,
        column: 1,
        end_column: 1,
        field: String::new(),
        message: format!("cannot read the file: {error}"),
        remedy: "check the path, and that the file is text in UTF-8".into(),
        rule: Rule::File,
        source: Source::default(),
    }
}

#[cfg(test)]
mod tests;
