//! An example of every field and the version in which it came, as the types say them: the schemas
//! of the API server have no place for either.
//! Must not know a field of our own types by name: they carry `schemars(example)`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::definition::schema;
use crate::{Approval, Pipeline, PipelineRun, Runner};

/// The version in which fields came that name none by `extend("x-since" = "1.2.3")`.
pub const FIRST_VERSION: &str = "0.1.0";
/// Key of a field's version in the schemas of the types.
const SINCE: &str = "x-since";
/// Example of every time.
const TIME: &str = "2026-01-02T03:04:05Z";

/// What is told of a field beside its schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// A value that the field may have; none when neither the type nor the schema gives one.
    pub example: Option<Value>,
    /// The version in which it came.
    pub since: String,
}

/// The notes on all fields of a kind by their paths, such as `spec.jobs[].name`.
pub fn notes(kind: &str) -> BTreeMap<String, Note> {
    let mut given = Given::default();
    match kind {
        "Pipeline" => given.collect("", &raw::<Pipeline>()),
        "PipelineRun" => given.collect("", &raw::<PipelineRun>()),
        "Runner" => given.collect("", &raw::<Runner>()),
        "Approval" => given.collect("", &raw::<Approval>()),
        _ => {}
    }
    let mut notes = BTreeMap::new();
    if let Some(schema) = schema(kind) {
        for part in ["spec", "status"] {
            given.note(part, &schema["properties"][part], &mut notes);
        }
    }
    // Whatever features serde_json is built with.
    let examples = notes.values_mut().filter_map(|note| note.example.as_mut());
    examples.for_each(Value::sort_all_objects);
    notes
}

/// The schema as the type has it, with everything in its place.
fn raw<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// What the types give, by path.
#[derive(Default)]
struct Given {
    examples: BTreeMap<String, Value>,
    since: BTreeMap<String, String>,
}

impl Given {
    fn collect(&mut self, path: &str, schema: &Value) {
        if let Some(example) = schema.get("example") {
            // What a field says stands before what its type says.
            self.examples
                .entry(path.to_owned())
                .or_insert(example.clone());
        }
        if let Some(since) = schema[SINCE].as_str() {
            self.since.insert(path.to_owned(), since.to_owned());
        }
        for key in ["anyOf", "allOf", "oneOf"] {
            let parts = schema[key].as_array();
            parts
                .into_iter()
                .flatten()
                .for_each(|part| self.collect(path, part));
        }
        for (name, field) in fields(schema) {
            let path = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            self.collect(&path, field);
        }
        if schema["items"].is_object() {
            self.collect(&format!("{path}[]"), &schema["items"]);
        }
        self.foreign(path, schema);
    }

    /// Types of Kubernetes cannot carry examples: they are known by a field that only they have.
    fn foreign(&mut self, path: &str, schema: &Value) {
        for (mark, examples) in foreign() {
            if schema["properties"].get(mark).is_none() {
                continue;
            }
            for (field, example) in examples.as_object().into_iter().flatten() {
                self.examples
                    .insert(format!("{path}.{field}"), example.clone());
            }
        }
    }

    fn note(&self, path: &str, schema: &Value, notes: &mut BTreeMap<String, Note>) {
        for (name, field) in fields(schema) {
            let path = format!("{path}.{name}");
            let since = self.since.get(&path).cloned();
            let note = Note {
                example: self.example(&path, field),
                since: since.unwrap_or_else(|| FIRST_VERSION.to_owned()),
            };
            self.note(&path, field, notes);
            self.note(&format!("{path}[]"), &field["items"], notes);
            notes.insert(path, note);
        }
    }

    /// The example that the type gives, else one that follows from the schema.
    fn example(&self, path: &str, schema: &Value) -> Option<Value> {
        if let Some(example) = self.examples.get(path) {
            return Some(example.clone());
        }
        if let Some(first) = schema["enum"].get(0) {
            return Some(first.clone());
        }
        match schema["type"].as_str() {
            Some("boolean") => Some(json!(true)),
            Some("array") => {
                let entry = self.example(&format!("{path}[]"), &schema["items"])?;
                Some(json!([entry]))
            }
            Some("object") => self.map(path, schema),
            Some("string") if schema["format"] == "date-time" => Some(json!(TIME)),
            _ => schema.get("default").cloned(),
        }
    }

    /// A map with what it must have, else with its first field.
    fn map(&self, path: &str, schema: &Value) -> Option<Value> {
        let required = schema["required"].as_array();
        let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|r| r == name));
        let of = |(name, field): (&String, &Value)| {
            let example = self.example(&format!("{path}.{name}"), field)?;
            Some((name.clone(), example))
        };
        let mut map = Map::new();
        for (name, field) in fields(schema).filter(|(name, _)| is_required(name)) {
            map.extend([of((name, field))?]);
        }
        if map.is_empty() {
            map.extend([fields(schema).find_map(of)?]);
        }
        Some(Value::Object(map))
    }
}

fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// Examples of the fields of `metav1.Condition`, `core/v1.Toleration`, `ResourceRequirements` and
/// `ResourceClaim`, each with the field that it is known by.
fn foreign() -> [(&'static str, Value); 4] {
    [
        (
            "lastTransitionTime",
            json!({
                "type": "Succeeded", "status": "True", "reason": "Succeeded",
                "message": "3 jobs succeeded", "observedGeneration": 1,
            }),
        ),
        (
            "tolerationSeconds",
            json!({
                "key": "dedicated", "operator": "Equal", "value": "builds",
                "effect": "NoSchedule", "tolerationSeconds": 300,
            }),
        ),
        (
            "requests",
            json!({
                "requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"},
                "claims": [{"name": "gpu"}],
            }),
        ),
        ("request", json!({"name": "gpu", "request": "one"})),
    ]
}

#[cfg(all(test, feature = "offline"))]
mod tests {
    use super::*;
    use crate::offline::check_value;

    /// The schema of a path such as `spec.jobs[].name`.
    fn schema_of<'s>(schema: &'s Value, path: &str) -> &'s Value {
        path.split('.').fold(schema, |schema, name| {
            let plain = name.trim_end_matches("[]");
            let field = &schema["properties"][plain];
            if name.ends_with("[]") {
                &field["items"]
            } else {
                field
            }
        })
    }

    #[test]
    fn every_field_has_a_version_and_an_example_that_its_schema_takes() {
        let ours: Vec<u32> = parts(env!("CARGO_PKG_VERSION"));
        let mut count = 0;
        for definition in crate::definition::all() {
            let kind = &definition.spec.names.kind;
            let whole = schema(kind).expect("it is a kind of ours");
            for (path, note) in notes(kind) {
                count += 1;
                let example = note
                    .example
                    .unwrap_or_else(|| panic!("{kind}: {path}: no example"));
                let wrong = check_value(schema_of(&whole, &path), &example);
                assert!(wrong.is_empty(), "{kind}: {path}: {example}: {wrong:?}");
                let since = parts(&note.since);
                assert!(
                    since.len() == 3 && since <= ours,
                    "{kind}: {path}: {}",
                    note.since
                );
            }
        }
        assert!(count > 500, "only {count} fields");
    }

    fn parts(version: &str) -> Vec<u32> {
        version
            .split('.')
            .map(|part| part.parse().expect("a version is three numbers"))
            .collect()
    }
}
