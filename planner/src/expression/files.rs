//! `hashFiles()`: the one function whose value is known only where the job's files are. The planner
//! evaluates what it is called with, and the agent the rest.
//! Must not look at files.

use std::sync::Arc;

use cel::extractors::Arguments;
use cel::{ExecutionError, Value};

/// Name of the function.
pub(super) const NAME: &str = "hashFiles";
/// Most patterns of one call.
pub(super) const MAX_PATTERNS: usize = 16;
/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 1024;

/// A part of a text that an agent puts together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AgentPart {
    /// Text as it stands.
    Text(String),
    /// The hash of the files that match these patterns; empty text when none does. A pattern that
    /// begins with `!` takes away what those before it match.
    HashFiles(Vec<String>),
}

/// What the call is for the planner: its patterns.
pub(super) fn hash_files(Arguments(patterns): Arguments) -> Result<Value, ExecutionError> {
    Ok(Value::List(Arc::clone(&patterns)))
}

/// The patterns that a call has given.
pub(super) fn patterns(value: &Value) -> Result<Vec<String>, String> {
    let Value::List(list) = value else {
        return Err("no list of patterns came out".to_owned());
    };
    let pattern = |value: &Value| match value {
        Value::String(text) => check(text).map(|()| text.as_str().to_owned()),
        other => Err(format!("a pattern is text, not {}", other.type_of())),
    };
    list.iter().map(pattern).collect()
}

/// What is wrong with a pattern, if anything is.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let path = pattern.strip_prefix('!').unwrap_or(pattern);
    if path.is_empty() {
        return Err("the pattern is empty".to_owned());
    }
    if pattern.len() > MAX_PATTERN {
        return Err(format!("the pattern is longer than {MAX_PATTERN} bytes"));
    }
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!(
            "the pattern `{pattern}` leaves the job's working directory"
        ));
    }
    Ok(())
}
