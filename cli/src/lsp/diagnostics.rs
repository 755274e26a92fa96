//! The findings of `lint` as the protocol's diagnostics.
//! Must not find anything itself.

use serde_json::{Value, json};

use super::position;
use crate::library::Pipelines;
use crate::lint;

/// What is wrong in a text; nothing in a text of others, whose dialect of YAML may be another.
pub(super) fn diagnostics(text: &str, others: &Pipelines) -> Vec<Value> {
    /// The protocol's number for an error.
    const ERROR: u8 = 1;
    let report = lint::lint_text("", text, others);
    if report.checked == 0 && !text.contains(crds::GROUP) {
        return Vec::new();
    }
    let diagnostic = |finding: &lint::Finding| {
        let (line, start) = (finding.line - 1, finding.column - 1);
        json!({
            "range": position::range(text, line, start, finding.end_column - 1),
            "severity": ERROR,
            "source": "rustci",
            "code": finding.rule,
            "message": lint::words(finding),
        })
    };
    report.findings.iter().map(diagnostic).collect()
}
