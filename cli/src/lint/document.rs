//! One document: whether it is ours, what is wrong in it, and where that stands.
//! Must not hold rules of its own: schemas and the planner have them.

use crds::offline::{self, Violation};
use crds::{Pipeline, PipelineRun, Runner};
use planner::names::nearest;
use planner::reuse::Library;
use planner::validate;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tree::{Content, Key, Node};
use super::{Problem, Rule};

/// Our kinds, for suggestions.
const KINDS: [&str; 4] = ["Pipeline", "PipelineRun", "Runner", "Approval"];

pub(super) enum Outcome {
    Checked(Vec<Problem>),
    /// Of another kind: a sentence for those who want to know.
    PassedOver(String),
    Empty,
}

/// What is wrong in one document of a file, whose whole text is at hand.
pub(super) fn check(file: &str, document: &Node, library: &Library<'_>) -> Outcome {
    let object = document.value();
    if object.is_null() {
        return Outcome::Empty;
    }
    let text = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (version, kind) = (text("apiVersion"), text("kind"));
    let ours = version == format!("{}/{}", crds::GROUP, crds::VERSION);
    match (ours, offline::knows(kind)) {
        (true, true) => Outcome::Checked(problems(file, document, kind, &object, library)),
        (true, false) => Outcome::Checked(vec![unknown_kind(document, kind)]),
        (false, known) if known && is_almost_ours(version) => {
            Outcome::Checked(vec![other_version(document, version)])
        }
        _ if version.is_empty() && kind.is_empty() => {
            Outcome::PassedOver("passed over, since it has neither apiVersion nor kind".into())
        }
        _ => Outcome::PassedOver(format!(
            "passed over: {version} {kind} is no kind of RustCI"
        )),
    }
}

/// A version of our group that does not exist, or none at all.
fn is_almost_ours(version: &str) -> bool {
    version.is_empty() || version.split('/').next() == Some(crds::GROUP)
}

fn other_version(document: &Node, version: &str) -> Problem {
    let message = match version {
        "" => "apiVersion is missing".to_owned(),
        other => format!("there is no version {other}"),
    };
    let remedy = format!("write apiVersion: {}/{}", crds::GROUP, crds::VERSION);
    at(document, "apiVersion", message, remedy)
}

fn unknown_kind(document: &Node, kind: &str) -> Problem {
    let message = match kind {
        "" => "kind is missing".to_owned(),
        other => format!("there is no kind {other}"),
    };
    let remedy = match nearest(kind, KINDS) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("write {}", KINDS.join(", ")),
    };
    at(document, "kind", message, remedy)
}

/// The API server's verdict, and what the planner adds. The planner's words are better where both
/// speak of the same: it knows the names around.
fn problems(
    file: &str,
    document: &Node,
    kind: &str,
    object: &Value,
    library: &Library<'_>,
) -> Vec<Problem> {
    let violations = offline::check(kind, object);
    let planned = planned(kind, &without_unknown(object, &violations), library);
    let mut problems = Vec::new();
    for violation in violations.iter().filter(|it| !follows(it, &violations)) {
        let is_rule = violation.remedy.is_empty();
        let said_better = |problem: &validate::Problem| is_within(&problem.field, &violation.path);
        if !(is_rule && planned.iter().any(said_better)) {
            problems.push(from_violation(document, violation));
        }
    }
    for problem in &planned {
        let is_structure = |violation: &Violation| {
            !violation.remedy.is_empty() && is_within(&problem.field, &violation.path)
        };
        if !violations.iter().any(is_structure) {
            problems.push(from_planner(file, document, problem));
        }
    }
    problems
}

/// True for the default and the allowed values of a parameter that do not fit its type, when that
/// type is wrong itself.
fn follows(violation: &Violation, violations: &[Violation]) -> bool {
    let param_type = format!("{}.type", violation.path);
    is_about_values(violation) && violations.iter().any(|other| other.path == param_type)
}

/// True for the values of a parameter that do not fit its type.
fn is_about_values(violation: &Violation) -> bool {
    violation.message.contains("(anyOf)")
}

/// True if `field` is `path` or below it.
fn is_within(field: &str, path: &str) -> bool {
    field
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The document as if its unknown fields were not there: they must not hide other mistakes.
fn without_unknown(object: &Value, violations: &[Violation]) -> Value {
    let mut object = object.clone();
    for violation in violations.iter().filter(|violation| is_unknown(violation)) {
        let mut segments = segments(&violation.path);
        let field = segments.pop().unwrap_or_default();
        let pointer: String = segments
            .iter()
            .map(|segment| format!("/{segment}"))
            .collect();
        if let Some(Value::Object(fields)) = object.pointer_mut(&pointer) {
            fields.remove(&field);
        }
    }
    object
}

fn is_unknown(violation: &Violation) -> bool {
    violation.message.starts_with("unknown field")
}

/// What the planner says; nothing when the document can't be decoded, which the schema reports.
fn planned(kind: &str, object: &Value, library: &Library<'_>) -> Vec<validate::Problem> {
    fn typed<T: DeserializeOwned>(object: &Value) -> Option<T> {
        T::deserialize(object).ok()
    }
    let result = match kind {
        "Pipeline" => typed::<Pipeline>(object)
            .map(|pipeline| validate::validate_pipeline_with(&pipeline.spec, library).map(drop)),
        "PipelineRun" => typed::<PipelineRun>(object)
            .map(|run| validate::validate_run_with(&run.spec, library).map(drop)),
        "Runner" => {
            typed::<Runner>(object).map(|runner| validate::validate_runner(&runner.spec).map(drop))
        }
        // The schema says all of an Approval.
        _ => None,
    };
    match result {
        Some(Err(problems)) => problems,
        _ => Vec::new(),
    }
}

fn from_violation(document: &Node, violation: &Violation) -> Problem {
    let wrong = violation.path.rsplit(['.', '[']).next().unwrap_or_default();
    let value = find(document, &violation.path)
        .value
        .and_then(|node| node.value().as_str().map(str::to_owned));
    let candidates = || violation.choices.iter().map(String::as_str);
    let near = match is_unknown(violation) {
        true => nearest(wrong, candidates()),
        false => value
            .as_deref()
            .and_then(|value| nearest(value, candidates())),
    };
    let remedy = match near {
        Some(near) => format!("did you mean {near}?"),
        None => misread(document, violation)
            .unwrap_or_else(|| violation.remedy.trim_end_matches('.').to_owned()),
    };
    let message = violation.message.trim_end_matches('.').to_owned();
    let mut problem = at(document, &violation.path, message, remedy);
    problem.rule = match violation.remedy.is_empty() {
        true => Rule::Cel,
        false => Rule::Schema,
    };
    if let (true, Some(key)) = (is_unknown(violation), find(document, &violation.path).key) {
        (problem.line, problem.column) = (key.line, key.column);
    }
    problem
}

/// What to do where YAML reads a word as something else than the text that was meant: `no`, `on`,
/// `1.10`. kubectl reads it in the same way.
fn misread(document: &Node, violation: &Violation) -> Option<String> {
    let place = find(document, &violation.path);
    let key = place.key.filter(|_| is_unknown(violation));
    if let Some((key, written)) = key.and_then(|key| Some((key, key.written.as_ref()?))) {
        let read = &key.name;
        return Some(match (written.to_lowercase().as_str(), &*violation.path) {
            ("on", "spec.true") => {
                "did you mean triggers? YAML reads the key on as true".to_owned()
            }
            _ => format!("write \"{written}\" in quotes, since YAML reads the key as {read}"),
        });
    }
    let value = place.value?;
    if is_about_values(violation) {
        let default = value.field("default").map(|(_, value)| value);
        let allowed = match value.field("enum").map(|(_, list)| &list.content) {
            Some(Content::List(items)) => items.as_slice(),
            _ => &[],
        };
        return default.into_iter().chain(allowed).find_map(quotes);
    }
    if !violation.message.starts_with("must be of type string") {
        return None;
    }
    quotes(value).or_else(|| match &value.content {
        Content::Scalar { value, .. } => Some(format!("put the value in quotes: \"{value}\"")),
        Content::List(_) | Content::Map(_) => {
            Some("write one text; one of several lines stands below a `|`".to_owned())
        }
    })
}

/// The advice for a word that YAML reads as something else.
fn quotes(value: &Node) -> Option<String> {
    let written = value.written()?;
    let read = value.value();
    Some(format!(
        "write \"{written}\" in quotes, since YAML reads {written} as {read}"
    ))
}

fn from_planner(file: &str, document: &Node, problem: &validate::Problem) -> Problem {
    let mut found = at(
        document,
        &problem.field,
        problem.message.clone(),
        problem.remedy.clone(),
    );
    found.rule = Rule::Pipeline;
    if found.remedy.is_empty() && problem.column.is_some() {
        found.remedy = "correct the expression".into();
    }
    let value = find(document, &problem.field).value;
    if let (Some(column), Some(value)) = (problem.column, value)
        && let Some(place) = value.place(file, column - 1)
    {
        (found.line, found.column) = place;
    }
    found
}

pub(super) fn at(document: &Node, field: &str, message: String, remedy: String) -> Problem {
    let place = find(document, field);
    Problem {
        line: place.line,
        column: place.column,
        field: field.to_owned(),
        message,
        remedy,
        rule: Rule::Schema,
    }
}

/// Where a field stands, or the last field on the way to it that is there.
pub(super) struct Place<'node> {
    line: usize,
    column: usize,
    /// The field's name, if the field is there and not an entry of a list.
    pub(super) key: Option<&'node Key>,
    /// The field's value, if the field is there.
    pub(super) value: Option<&'node Node>,
}

pub(super) fn find<'node>(document: &'node Node, path: &str) -> Place<'node> {
    let Node { line, column, .. } = *document;
    let mut place = Place {
        line,
        column,
        key: None,
        value: Some(document),
    };
    let mut node = document;
    for segment in segments(path) {
        let next = match (&node.content, segment.parse::<usize>()) {
            (Content::List(items), Ok(index)) => items.get(index).map(|item| (None, item)),
            _ => node.field(&segment).map(|(key, value)| (Some(key), value)),
        };
        let Some((key, value)) = next else {
            return Place {
                key: None,
                value: None,
                ..place
            };
        };
        // A list or map starts below its key, and a null nowhere: there the key is what a
        // reader looks for.
        let (line, column) = match (key, &value.content) {
            (Some(_), Content::Scalar { value: text, .. }) if !text.is_null() => {
                (value.line, value.column)
            }
            (Some(key), _) => (key.line, key.column),
            (None, _) => (value.line, value.column),
        };
        node = value;
        place = Place {
            line,
            column,
            key,
            value: Some(value),
        };
    }
    place
}

/// `spec.jobs[2].env[0]` in parts; a key in brackets may hold dots.
fn segments(path: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (segment, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => {
                let plain = rest.strip_prefix('.').unwrap_or(rest);
                plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()))
            }
        };
        segments.push(segment.to_owned());
        rest = after;
    }
    segments
}
