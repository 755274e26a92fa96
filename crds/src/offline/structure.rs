//! The OpenAPI part of the check: types, required and unknown fields, bounds, patterns, lists.
//! Must not evaluate CEL.

use std::collections::HashSet;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::Violation;

/// What was found, and whether the server would evaluate the CEL rules all the same.
#[derive(Default)]
pub(super) struct Found {
    pub(super) violations: Vec<Violation>,
    pub(super) blocks_rules: bool,
}

pub(super) fn check(schema: &Value, object: &Value) -> Found {
    let mut found = Found::default();
    found.value(schema, object, "");
    found
}

impl Found {
    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        if let Some(wanted) = wrong_type(schema, value) {
            self.blocks_rules = true;
            let actual = type_of(value);
            self.add(
                path,
                format!("must be of type {wanted}: \"{actual}\""),
                type_remedy(&wanted, value),
            );
            return;
        }
        self.allowed_values(schema, value, path);
        match value {
            Value::String(text) => self.text(schema, text, path),
            Value::Number(_) => self.number(schema, value, path),
            Value::Array(items) => self.list(schema, items, path),
            Value::Object(fields) => self.object(schema, fields, path),
            Value::Bool(_) | Value::Null => {}
        }
        self.branches(schema, value, path);
    }

    fn add(&mut self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.violations.push(Violation {
            path: path.into(),
            message: message.into(),
            remedy: remedy.into(),
            choices: Vec::new(),
        });
    }

    fn allowed_values(&mut self, schema: &Value, value: &Value, path: &str) {
        let Some(allowed) = schema.get("enum").and_then(Value::as_array) else {
            return;
        };
        if allowed.contains(value) {
            return;
        }
        self.blocks_rules = true;
        let plain: Vec<String> = allowed.iter().map(plain).collect();
        let quoted: Vec<String> = plain.iter().map(|value| format!("\"{value}\"")).collect();
        self.violations.push(Violation {
            path: path.into(),
            message: format!(
                "Unsupported value: {value}: supported values: {}",
                quoted.join(", ")
            ),
            remedy: format!("Write {}.", plain.join(" or ")),
            choices: plain,
        });
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        let characters = text.chars().count() as u64;
        if let Some(max) = bound(schema, "maxLength")
            && characters > max
        {
            self.blocks_rules = true;
            let message = format!("Too long: may not be more than {max} bytes");
            self.add(
                path,
                message,
                format!("Shorten it: it has {characters} characters."),
            );
        }
        if let Some(min) = bound(schema, "minLength")
            && characters < min
        {
            let message = format!("should be at least {min} chars long");
            self.add(path, message, "Write a value, or remove the field.");
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
        {
            self.add(
                path,
                format!("should match '{pattern}'"),
                pattern_remedy(pattern),
            );
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, path: &str) {
        let number = value.as_f64().unwrap_or(f64::NAN);
        let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
        if let Some(min) = limit("minimum")
            && number < min
        {
            let message = format!("should be greater than or equal to {min}");
            self.add(path, message, format!("Write {min} or more."));
        }
        if let Some(max) = limit("maximum")
            && number > max
        {
            let message = format!("should be less than or equal to {max}");
            self.add(path, message, format!("Write {max} or less."));
        }
        if let Some(factor) = limit("multipleOf")
            && (number / factor).fract() != 0.0
        {
            let message = format!("should be a multiple of {factor}");
            self.add(
                path,
                message,
                "Write a whole number, or put the value in quotes.",
            );
        }
    }

    fn list(&mut self, schema: &Value, items: &[Value], path: &str) {
        let count = items.len() as u64;
        if let Some(max) = bound(schema, "maxItems")
            && count > max
        {
            self.blocks_rules = true;
            let message = format!("Too many: {count}: must have at most {max} items");
            self.add(path, message, format!("Remove {} of them.", count - max));
        }
        if let Some(min) = bound(schema, "minItems")
            && count < min
        {
            let message = format!("should have at least {min} items");
            self.add(path, message, format!("Write at least {min}."));
        }
        if let Some(inner) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(inner, item, &format!("{path}[{index}]"));
            }
        }
        self.duplicates(schema, items, path);
    }

    /// Lists of kind `map` and `set`: no two items with the same key.
    fn duplicates(&mut self, schema: &Value, items: &[Value], path: &str) {
        let kind = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
        let keys = schema
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array);
        let key_of = |item: &Value| match (kind, keys) {
            (Some("set"), _) => item.clone(),
            _ => keys
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(|key| (key.to_owned(), item.get(key).cloned().unwrap_or_default()))
                .collect::<Map<_, _>>()
                .into(),
        };
        if !matches!(kind, Some("set" | "map")) {
            return;
        }
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let key = key_of(item);
            if !seen.insert(key.to_string()) {
                let remedy = match kind {
                    Some("set") => "Remove one of the two.",
                    _ => "Give each entry a name of its own.",
                };
                self.add(
                    &format!("{path}[{index}]"),
                    format!("Duplicate value: {key}"),
                    remedy,
                );
            }
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = name.as_str().unwrap_or_default();
            if !fields.contains_key(name) {
                self.blocks_rules = true;
                self.add(&child(path, name), "Required value", format!("Add {name}."));
            }
        }
        let count = fields.len() as u64;
        if let Some(max) = bound(schema, "maxProperties")
            && count > max
        {
            self.blocks_rules = true;
            let message = format!("Too many: {count}: must have at most {max} items");
            self.add(path, message, format!("Remove {} of them.", count - max));
        }
        if let Some(min) = bound(schema, "minProperties")
            && count < min
        {
            self.add(
                path,
                format!("should have at least {min} properties"),
                "Write a value.",
            );
        }
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema
            .get("additionalProperties")
            .filter(|other| other.is_object());
        for (name, value) in fields {
            match (known.and_then(|known| known.get(name)), others) {
                (Some(inner), _) => self.value(inner, value, &child(path, name)),
                (None, Some(inner)) => self.value(inner, value, &format!("{path}[{name}]")),
                (None, None) => self.unknown(schema, known, &child(path, name)),
            }
        }
    }

    fn unknown(&mut self, schema: &Value, known: Option<&Map<String, Value>>, path: &str) {
        let open = |key: &str| schema.get(key).is_some_and(|open| open == &json!(true));
        // A schema that names no fields at all takes any: `metadata`, checked elsewhere.
        let Some(known) = known else { return };
        if !open("x-kubernetes-preserve-unknown-fields") && !open("additionalProperties") {
            self.violations.push(Violation {
                path: path.into(),
                message: format!("unknown field \"{path}\""),
                remedy: "Remove the field, or correct its name.".into(),
                choices: known.keys().cloned().collect(),
            });
        }
    }

    /// `anyOf` and `not`; the schemas of ours use no other.
    fn branches(&mut self, schema: &Value, value: &Value, path: &str) {
        let any = schema.get("anyOf").and_then(Value::as_array);
        if let Some(any) = any
            && !any.iter().any(|branch| fits(branch, value))
        {
            let remedy = required(any).unwrap_or_else(|| {
                "Make default and enum fit the type: text for string (in quotes if it looks \
                 like a number), a whole number for integer, true or false for boolean."
                    .to_owned()
            });
            self.add(path, "must validate at least one schema (anyOf)", remedy);
        }
        if let Some(not) = schema.get("not")
            && fits(not, value)
        {
            let remedy = required(std::slice::from_ref(not));
            let remedy = remedy.unwrap_or_else(|| "Write another value.".to_owned());
            self.add(path, "must not validate the schema (not)", remedy);
        }
    }
}

/// What to do about branches that only say which fields must be there.
fn required(branches: &[Value]) -> Option<String> {
    let names = branches
        .iter()
        .map(|branch| branch.get("required")?.as_array());
    let names: Vec<_> = names
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    let names = names.into_iter().filter_map(Value::as_str);
    let names = names.collect::<Vec<_>>().join(" and ");
    Some(format!("Set exactly one of {names}."))
}

/// Branches never carry types or field lists of their own, so nothing in them is unknown.
fn fits(branch: &Value, value: &Value) -> bool {
    let mut found = Found::default();
    let mut branch = branch.clone();
    if let Some(fields) = branch.as_object_mut()
        && fields.contains_key("properties")
    {
        fields.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    }
    found.value(&branch, value, "");
    found.violations.is_empty()
}

fn bound(schema: &Value, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The type that was wanted, if the value has another.
fn wrong_type(schema: &Value, value: &Value) -> Option<String> {
    if schema.get("x-kubernetes-int-or-string") == Some(&json!(true)) {
        let fits = value.is_string() || is_integer(value);
        return (!fits).then(|| "integer,string".to_owned());
    }
    let wanted = schema.get("type").and_then(Value::as_str)?;
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => is_integer(value),
        _ => value.is_number(),
    };
    (!fits).then(|| wanted.to_owned())
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_remedy(wanted: &str, value: &Value) -> String {
    match (wanted, value) {
        ("string", Value::Bool(_) | Value::Number(_)) => "Put the value in quotes.".into(),
        ("array", _) => "Write a list: each entry on its own line, starting with '- '.".into(),
        ("object", _) => "Write fields below it, as 'name: value'.".into(),
        ("boolean", _) => "Write true or false, without quotes.".into(),
        ("integer", _) => "Write a whole number, without quotes.".into(),
        _ => format!("Write a value of type {wanted}."),
    }
}

fn pattern_remedy(pattern: &str) -> &'static str {
    if pattern == crate::rule::ENV_NAME {
        "Use letters, digits and '_' only, and do not start with a digit."
    } else {
        "Write it in that form."
    }
}
