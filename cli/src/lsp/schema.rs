//! The fields that the schemas know, with their documentation.
//! Must not know a field by name: everything comes from the types.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::cursor::Segment;

/// A field of a map.
pub(super) struct Field<'schema> {
    pub(super) name: &'schema str,
    pub(super) schema: &'schema Value,
    pub(super) required: bool,
}

/// The kinds of documents.
pub(super) fn kinds() -> Vec<&'static str> {
    let kinds = schemas().iter();
    kinds
        .filter_map(|schema| schema["title"].as_str())
        .collect()
}

/// The schema at a path of a document of a kind; none for another kind or an unknown path.
pub(super) fn at(kind: &str, path: &[Segment]) -> Option<&'static Value> {
    let root = schemas().iter().find(|schema| schema["title"] == kind)?;
    path.iter().try_fold(root, |schema, segment| match segment {
        Segment::Item(_) => schema.get("items"),
        Segment::Key(name) => {
            let known = schema.get("properties").and_then(|known| known.get(name));
            let other = || {
                schema
                    .get("additionalProperties")
                    .filter(|other| other.is_object())
            };
            known.or_else(other)
        }
    })
}

/// The fields that a map may have; what the operator writes is left out.
pub(super) fn fields(schema: &Value) -> Vec<Field<'_>> {
    let required = |name: &str| {
        let names = schema["required"].as_array();
        names.is_some_and(|names| names.iter().any(|known| known == name))
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    let fields = properties.into_iter().flat_map(Map::iter);
    fields
        .filter(|(name, _)| !(*name == "status" && schema.get("title").is_some()))
        .map(|(name, schema)| Field {
            name,
            schema,
            required: required(name),
        })
        .collect()
}

/// The values that may stand there, when the schema lists them.
pub(super) fn values(schema: &Value) -> Vec<String> {
    let listed = schema.get("enum").and_then(Value::as_array);
    let fixed = schema.get("const");
    let values = listed.into_iter().flatten().chain(fixed);
    let values: Vec<String> = values
        .map(|value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        })
        .collect();
    match values.is_empty() && schema["type"] == "boolean" {
        true => vec!["true".to_owned(), "false".to_owned()],
        false => values,
    }
}

/// The type in a word, such as `list of string`.
pub(super) fn type_word(schema: &Value) -> String {
    match &schema["type"] {
        Value::String(name) if name == "array" => {
            format!("list of {}", type_word(&schema["items"]))
        }
        Value::String(name) if name == "object" => "map".to_owned(),
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.join(" or ")
        }
        _ if schema.get("const").is_some() => "string".to_owned(),
        _ => "any value".to_owned(),
    }
}

/// True when the value stands below its key, as lists and maps do.
pub(super) fn is_nested(schema: &Value) -> bool {
    schema["type"] == "object" || schema["type"] == "array"
}

/// True for a map whose fields are known.
pub(super) fn has_fields(schema: &Value) -> bool {
    schema.get("properties").is_some()
}

/// What a field is for, in Markdown.
pub(super) fn documentation(field: &Field<'_>) -> String {
    let required = if field.required { ", required" } else { "" };
    let mut text = format!("**{}** ({}{required})", field.name, type_word(field.schema));
    if let Some(description) = field.schema["description"].as_str() {
        text.push_str(&format!("\n\n{description}"));
    }
    if let Some(default) = field.schema.get("default") {
        text.push_str(&format!("\n\nDefault: `{default}`"));
    }
    let values = values(field.schema);
    if !values.is_empty() {
        text.push_str(&format!("\n\nAllowed: `{}`", values.join("`, `")));
    }
    text
}

fn schemas() -> &'static Vec<Value> {
    static SCHEMAS: OnceLock<Vec<Value>> = OnceLock::new();
    SCHEMAS.get_or_init(|| match crds::definition::editor_schema()["oneOf"].take() {
        Value::Array(kinds) => kinds,
        _ => unreachable!("the schema for editors is a choice of kinds"),
    })
}
