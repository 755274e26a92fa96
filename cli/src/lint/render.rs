//! Writes a report: as text for people, as JSON for programs.
//! Must not leave out a finding.

use std::fmt::Write;

use super::{Finding, Report};

/// `file:line:col: field: what is wrong; what to do`, the line below it with the place marked,
/// and a summary. Notes on other documents only when `verbose`.
pub fn text(report: &Report, verbose: bool) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", sentence(finding));
        mark(finding, &mut text);
    }
    if verbose {
        for note in &report.notes {
            let _ = writeln!(text, "{note}");
        }
    }
    let _ = writeln!(text, "{}", summary(report));
    text
}

/// The report as one JSON object.
pub fn json(report: &Report) -> String {
    let text = serde_json::to_string_pretty(report).expect("a report has only texts and numbers");
    format!("{text}\n")
}

fn sentence(finding: &Finding) -> String {
    let Finding {
        file, line, column, ..
    } = finding;
    format!("{file}:{line}:{column}: {}", words(finding))
}

/// `field: what is wrong; what to do`.
pub fn words(finding: &Finding) -> String {
    let Finding {
        field,
        message,
        remedy,
        ..
    } = finding;
    let field = if field.is_empty() {
        String::new()
    } else {
        format!("{field}: ")
    };
    let remedy = if remedy.is_empty() {
        String::new()
    } else {
        format!("; {}", lowered(remedy))
    };
    format!("{field}{message}{remedy}")
}

/// A sentence as the second half of another one.
fn lowered(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(characters).collect()
    })
}

/// The line of the file, or the part of it around the column, and a caret below the column.
fn mark(finding: &Finding, text: &mut String) {
    let Finding {
        line,
        column,
        source,
        ..
    } = finding;
    if source.text.trim().is_empty() {
        return;
    }
    let number = line.to_string();
    let blank = " ".repeat(number.len());
    let start = if source.left_out > 0 { "…" } else { "" };
    let end = if source.goes_on { "…" } else { "" };
    let shown = format!("{start}{}{end}", source.text);
    // Tabs stay, so that the caret stands below its column.
    let before = (start.chars()).chain(source.text.chars().take(column - 1 - source.left_out));
    let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let _ = writeln!(text, "  {number} | {shown}\n  {blank} | {indent}^");
}

fn summary(report: &Report) -> String {
    let documents = |count: usize| match count {
        1 => "1 document".to_owned(),
        count => format!("{count} documents"),
    };
    let checked = documents(report.checked);
    match report.findings.len() {
        0 if report.checked == 0 => "nothing to check: no document of RustCI found".into(),
        0 => format!("{checked} checked, nothing wrong"),
        1 => format!("{checked} checked, 1 mistake"),
        count => format!("{checked} checked, {count} mistakes"),
    }
}
