//! Writes a report as SARIF 2.1.0, which code hosts show beside the lines.
//! Must not leave out a finding.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Finding, Report, Rule, render};

/// Where the schema of a log stands.
const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/\
                      sarif-schema-2.1.0.json";
/// The checks with a sentence each, in the order of their index.
const RULES: [(Rule, &str, &str); 5] = [
    (Rule::File, "file", "The file can be read."),
    (Rule::Yaml, "yaml", "The file is YAML without double keys."),
    (
        Rule::Schema,
        "schema",
        "The document fits the schema of its kind: fields, types and bounds.",
    ),
    (
        Rule::Cel,
        "cel",
        "The document keeps the rules of its kind.",
    ),
    (
        Rule::Pipeline,
        "pipeline",
        "The pipeline can be run: names, needs, expressions and times are right.",
    ),
];

/// The report as one SARIF log.
pub fn sarif(report: &Report) -> String {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|(_, id, text)| json!({"id": id, "shortDescription": {"text": text}}))
        .collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "rustci",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": report.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    format!("{log:#}\n")
}

fn result(finding: &Finding) -> Value {
    let index = RULES
        .iter()
        .position(|(rule, ..)| *rule == finding.rule)
        .expect("the table has every rule");
    let mut region = json!({
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": finding.line,
        "endColumn": finding.end_column,
    });
    if finding.source.is_whole() && !finding.source.text.is_empty() {
        region["snippet"] = json!({"text": finding.source.text});
    }
    json!({
        "ruleId": RULES[index].1,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": render::words(finding)},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&finding.file)},
            "region": region,
        }}],
    })
}

/// A path as a URI: relative as it is, absolute with its scheme.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_uris() {
        assert_eq!(uri("ci/a.yaml"), "ci/a.yaml");
        assert_eq!(uri("/srv/a b#.yaml"), "file:///srv/a%20b%23.yaml");
    }
}
