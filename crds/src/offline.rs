//! Checks documents as the API server does, without one: the same schemas and CEL rules.
//! Must not know a rule of its own: what the schema does not say is not checked here.

mod metadata;
mod structure;

use std::collections::BTreeMap;

use kube_cel::CompiledSchema;
use serde_json::Value;

use crate::definition;

/// One thing that the API server would refuse.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Violation {
    /// The field, such as `spec.jobs[2].name`.
    pub path: String,
    /// What is wrong, with the words of the API server. Rules also say what to do.
    pub message: String,
    /// What to do, when the message does not say it; else empty.
    pub remedy: String,
    /// What may stand there: the known fields or values, if there is such a list.
    pub choices: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// What the API server would refuse in a new object of a kind; nothing for other kinds than ours.
pub fn check(kind: &str, object: &Value) -> Vec<Violation> {
    check_with(kind, None, object)
}

/// What the API server would refuse when `old` is replaced by `new`.
///
/// The server also lets a value that breaks a rule stay if the update does not touch it; here it
/// is reported.
pub fn check_update(kind: &str, old: &Value, new: &Value) -> Vec<Violation> {
    check_with(kind, Some(old), new)
}

/// What the API server would refuse in a value, where a field of this schema stands.
pub fn check_value(schema: &Value, value: &Value) -> Vec<Violation> {
    let value = prepare(schema, value.clone());
    let found = structure::check(schema, &value);
    let mut violations = found.violations;
    if !found.blocks_rules {
        violations.extend(rules(&kube_cel::compile_schema(schema), &value, None));
    }
    violations
}

/// True for the kinds that [`check`] knows.
pub fn knows(kind: &str) -> bool {
    SCHEMAS.with(|schemas| schemas.contains_key(kind))
}

struct Schema {
    raw: Value,
    compiled: CompiledSchema,
}

thread_local! {
    /// The compiled rules are not shared between threads; compiling takes some milliseconds.
    static SCHEMAS: BTreeMap<String, Schema> = definition::all()
        .into_iter()
        .filter_map(|definition| {
            let kind = definition.spec.names.kind;
            let raw = definition::schema(&kind)?;
            let compiled = kube_cel::compile_schema(&raw);
            Some((kind, Schema { raw, compiled }))
        })
        .collect();
}

fn check_with(kind: &str, old: Option<&Value>, new: &Value) -> Vec<Violation> {
    SCHEMAS.with(|schemas| {
        let Some(schema) = schemas.get(kind) else {
            return Vec::new();
        };
        let mut violations = metadata::check(new);
        let new = prepare(&schema.raw, metadata::with_name(new));
        let found = structure::check(&schema.raw, &new);
        violations.extend(found.violations);
        if !found.blocks_rules {
            let old = old.map(|old| prepare(&schema.raw, metadata::with_name(old)));
            violations.extend(rules(&schema.compiled, &new, old.as_ref()));
        }
        violations
    })
}

/// What the server does before it validates: nulls go, defaults come.
fn prepare(schema: &Value, mut object: Value) -> Value {
    without_nulls(&mut object);
    kube_cel::apply_defaults(schema, &object)
}

/// No field of ours is nullable, so a null is an absent field.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn rules(compiled: &CompiledSchema, new: &Value, old: Option<&Value>) -> Vec<Violation> {
    match kube_cel::validate_compiled(compiled, new, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors
            .into_iter()
            .map(|error| Violation {
                path: error.field_path,
                message: error.message,
                ..Violation::default()
            })
            .collect(),
    }
}
