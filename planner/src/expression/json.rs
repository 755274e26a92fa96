//! `toJson()` and `fromJson()`.
//! Must not panic, whatever the text.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{ExecutionError, Value};
use serde_json::Value as Json;

/// Most entries of a list or map that is read from text: a matrix has 256 values at most.
pub(super) const MAX_ENTRIES: usize = 1024;

/// A value as text. Maps are written in the order of their names.
pub(super) fn to_json(value: Value) -> Result<Value, ExecutionError> {
    write(&value).map(|json| json.to_string().into())
}

/// The value that a text is.
pub(super) fn from_json(text: Arc<String>) -> Result<Value, ExecutionError> {
    let json = serde_json::from_str(&text);
    let json: Json = json.map_err(|error| ExecutionError::function_error("fromJson", error))?;
    if largest(&json) > MAX_ENTRIES {
        let message = format!("a list or map has more than {MAX_ENTRIES} entries");
        return Err(ExecutionError::function_error("fromJson", message));
    }
    Ok(read(json))
}

/// Entries of its largest list or map.
fn largest(json: &Json) -> usize {
    match json {
        Json::Array(items) => items.iter().map(largest).fold(items.len(), usize::max),
        Json::Object(entries) => entries
            .values()
            .map(largest)
            .fold(entries.len(), usize::max),
        _ => 0,
    }
}

fn write(value: &Value) -> Result<Json, ExecutionError> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::from(*truth),
        Value::Int(number) => Json::from(*number),
        Value::UInt(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::String(text) => Json::from(text.as_str()),
        Value::List(list) => list.iter().map(write).collect::<Result<_, _>>()?,
        Value::Map(map) => {
            let entries = map.map.iter();
            let entries = entries.map(|(key, value)| Ok((key.to_string(), write(value)?)));
            Json::Object(entries.collect::<Result<_, ExecutionError>>()?)
        }
        other => {
            let message = format!("a {} has no form in JSON", other.type_of());
            return Err(ExecutionError::function_error("toJson", message));
        }
    })
}

fn read(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => text.into(),
        Json::Array(items) => Value::List(Arc::new(items.into_iter().map(read).collect())),
        Json::Object(entries) => {
            let entries = entries.into_iter().map(|(name, value)| (name, read(value)));
            entries.collect::<HashMap<String, Value>>().into()
        }
    }
}
