//! Names, labels and annotations, which every object has and no schema of ours describes.
//! Must not check what only a cluster knows, such as whether a name is taken.

use serde_json::{Value, json};

use super::Violation;

/// Fields of `metav1.ObjectMeta`.
const FIELDS: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What the server adds to `generateName`.
const GENERATED_CHARACTERS: usize = 5;
/// The server cuts `generateName` so that the name stays a DNS label.
const LONGEST_GENERATED: usize = 63;

pub(super) fn check(object: &Value) -> Vec<Violation> {
    let mut violations = Vec::new();
    let empty = json!({});
    let metadata = match object.get("metadata") {
        Some(metadata @ Value::Object(_)) => metadata,
        None | Some(Value::Null) => &empty,
        // The schema says that it must be an object.
        Some(_) => return violations,
    };
    for field in metadata
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys())
    {
        if !FIELDS.contains(&field.as_str()) {
            violations.push(Violation {
                path: format!("metadata.{field}"),
                message: format!("unknown field \"metadata.{field}\""),
                remedy: "Remove the field, or correct its name.".into(),
                choices: FIELDS.iter().map(|&field| field.to_owned()).collect(),
            });
        }
    }
    check_name(metadata, &mut violations);
    for field in ["labels", "annotations"] {
        check_texts(field, metadata, &mut violations);
    }
    violations
}

/// A copy of the object that has the name which the server would make up; an empty one if there
/// is nothing to make it from.
pub(super) fn with_name(object: &Value) -> Value {
    let mut object = object.clone();
    if object.is_object() && object.get("metadata").is_none_or(Value::is_null) {
        object["metadata"] = json!({});
    }
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else {
        return object;
    };
    let given = |field| {
        metadata
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if given("name").is_empty() {
        let start = given("generateName")
            .chars()
            .take(LONGEST_GENERATED - GENERATED_CHARACTERS);
        let name: String = match given("generateName") {
            "" => String::new(),
            _ => start.chain("xxxxx".chars()).collect(),
        };
        metadata.insert("name".into(), json!(name));
    }
    object
}

fn check_name(metadata: &Value, violations: &mut Vec<Violation>) {
    let text = |field: &str| {
        metadata
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if !text("name").is_empty() {
        if !is_subdomain(text("name")) {
            violations.push(bad_name("metadata.name"));
        }
    } else if !text("generateName").is_empty() {
        // A '-' at the end is fine: more characters follow.
        if !is_subdomain(&format!("{}x", text("generateName"))) {
            violations.push(bad_name("metadata.generateName"));
        }
    } else {
        violations.push(Violation {
            path: "metadata.name".into(),
            message: "name or generateName is required".into(),
            remedy: "Give the object a name.".into(),
            ..Violation::default()
        });
    }
}

fn bad_name(path: &str) -> Violation {
    Violation {
        path: path.into(),
        message: "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                  characters, '-' or '.', and must start and end with an alphanumeric character"
            .into(),
        remedy: "Use lower-case letters, digits and '-' only.".into(),
        ..Violation::default()
    }
}

fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= crate::rule::MAX_OBJECT_NAME
        && name.split('.').all(|label| {
            label.bytes().all(|b| alphanumeric(b) || b == b'-')
                && label.bytes().next().is_some_and(alphanumeric)
                && label.bytes().last().is_some_and(alphanumeric)
        })
}

fn check_texts(field: &str, metadata: &Value, violations: &mut Vec<Violation>) {
    for (key, value) in metadata
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if !value.is_string() {
            violations.push(Violation {
                path: format!("metadata.{field}[{key}]"),
                message: "cannot unmarshal into a field of type string".into(),
                remedy: "Put the value in quotes.".into(),
                ..Violation::default()
            });
        }
    }
}
