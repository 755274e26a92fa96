//! Finds the first field in which two objects differ.
//! Must not know what the fields mean.

use serde_json::Value;

/// The path of the first field in which two values differ, in the order of the fields' names;
/// none when they are the same. A field that only one of them has counts.
pub(crate) fn first_difference(path: &str, left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
            names.sort();
            names.into_iter().find_map(|name| {
                let path = format!("{path}.{name}");
                differ(&path, left.get(name), right.get(name))
            })
        }
        (Value::Array(left), Value::Array(right)) => (0..left.len().max(right.len()))
            .find_map(|i| differ(&format!("{path}[{i}]"), left.get(i), right.get(i))),
        _ => (left != right).then(|| path.to_owned()),
    }
}

fn differ(path: &str, left: Option<&Value>, right: Option<&Value>) -> Option<String> {
    match (left, right) {
        (Some(left), Some(right)) => first_difference(path, left, right),
        _ => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_deepest_field_that_differs_is_named() {
        let tree = json!({"bark": 1, "twigs": [{"leaf": "a"}, {"leaf": "b"}]});
        let cases = [
            (
                json!({"bark": 1, "twigs": [{"leaf": "a"}, {"leaf": "b"}]}),
                None,
            ),
            (
                json!({"bark": 1, "twigs": [{"leaf": "a"}, {"leaf": "c"}]}),
                Some("oak.twigs[1].leaf"),
            ),
            (
                json!({"bark": 1, "twigs": [{"leaf": "a"}]}),
                Some("oak.twigs[1]"),
            ),
            (json!({"bark": 2, "twigs": []}), Some("oak.bark")),
            (json!({"bark": 1}), Some("oak.twigs")),
            (json!({"age": 9, "bark": 1}), Some("oak.age")),
            (json!(null), Some("oak")),
        ];
        for (other, expected) in cases {
            assert_eq!(first_difference("oak", &tree, &other).as_deref(), expected);
        }
    }
}
