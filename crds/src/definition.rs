//! The CustomResourceDefinitions as they are installed, and the JSON Schema for editors.
//! Must not read or write files: `cargo xtask generate` does.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::rule::{OBJECT_NAME, rules};
use crate::{Approval, GROUP, Pipeline, PipelineRun, Runner, VERSION};

/// The definitions of all kinds. Install these, not what `CustomResourceExt::crd` gives: that one
/// has number formats and nulls that the API server does not know or want.
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        Pipeline::crd(),
        PipelineRun::crd(),
        Runner::crd(),
        Approval::crd(),
    ]
    .into_iter()
    .map(finish)
    .collect()
}

/// The schema of one kind's objects, as the API server uses it; none for a kind that is not ours.
pub fn schema(kind: &str) -> Option<Value> {
    all()
        .into_iter()
        .find(|definition| definition.spec.names.kind == kind)
        .map(|definition| {
            let schema = definition
                .spec
                .versions
                .into_iter()
                .next()
                .and_then(|version| version.schema);
            serde_json::to_value(schema.and_then(|schema| schema.open_api_v3_schema))
                .expect("a schema made from JSON is written as JSON")
        })
}

fn finish(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(definition).expect("a definition is written as JSON");
    let root = value
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
        .expect("kube writes one version with a schema");
    adapt(root);
    root["x-kubernetes-validations"] = rules(&[OBJECT_NAME]);
    let kind = "Kind of the object.";
    let version = "API group and version of the object.";
    root["properties"]["apiVersion"] = json!({"type": "string", "description": version});
    root["properties"]["kind"] = json!({"type": "string", "description": kind});
    root["properties"]["metadata"] = json!({"type": "object"});
    if let Some(status) = root.pointer_mut("/properties/status") {
        without_rules(status);
    }
    serde_json::from_value(value).expect("the changes keep the shape of a definition")
}

/// The operator alone writes statuses: rules there would only cost budget.
fn without_rules(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(without_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        _ => {}
    }
}

/// Rewrites what Rust types give into what the API server knows: an absent field instead of a
/// null, signed number formats, descriptions on one line.
fn adapt(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        return;
    };
    fields.remove("nullable");
    // Examples are for the reference (`example`); here they would only take room.
    fields.remove("example");
    if let Some(format) = fields.get("format").and_then(Value::as_str)
        && format.starts_with("uint")
    {
        let small = fields
            .get("maximum")
            .and_then(Value::as_f64)
            .is_some_and(|max| max < 2e9);
        fields.insert(
            "format".into(),
            json!(if small { "int32" } else { "int64" }),
        );
    }
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(adapt);
        for list in ["params", "inputs"] {
            let declared = properties
                .get_mut(list)
                .and_then(|list| list.get_mut("items"));
            if let Some(declared) = declared
                && declared.pointer("/properties/enum").is_some()
            {
                declared["anyOf"] = values_match_type();
            }
        }
        if let Some(axis) = properties
            .get_mut("axes")
            .and_then(|axes| axes.get_mut("items"))
        {
            // CEL does not see a list of values without a type.
            axis["anyOf"] = json!([{"required": ["values"]}, {"required": ["from"]}]);
            axis["not"] = json!({"required": ["values", "from"]});
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            adapt(inner);
        }
    }
}

/// `default` and `enum` of the parameter's type. CEL does not see a field without a type, so this
/// is said with validations that only look at values of one type and that none of them passes.
/// It is added here because kube would move the properties out of an `anyOf`.
fn values_match_type() -> Value {
    let text = json!({"not": {"pattern": "a^"}});
    let number = json!({"not": {"minimum": 1, "maximum": 0}});
    let boolean = json!({"enum": [true, false]});
    [("string", text), ("integer", number), ("boolean", boolean)]
        .into_iter()
        .map(|(name, value)| {
            json!({"properties": {
                "type": {"enum": [name]},
                "default": value,
                "enum": {"items": value},
            }})
        })
        .collect()
}

/// One JSON Schema (draft 7) for documents of all kinds, for editors.
pub fn editor_schema() -> Value {
    let kinds: Vec<Value> = all()
        .iter()
        .map(|definition| {
            let kind = definition.spec.names.kind.as_str();
            let mut schema = schema(kind).expect("every definition has a schema");
            for_editors(&mut schema);
            let properties = schema["properties"]
                .as_object_mut()
                .expect("an object has fields");
            properties.insert(
                "apiVersion".into(),
                json!({"const": format!("{GROUP}/{VERSION}")}),
            );
            properties.insert("kind".into(), json!({"const": kind}));
            properties.insert("metadata".into(), metadata());
            schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
            schema["title"] = json!(kind);
            schema
        })
        .collect();
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://rustci.dev/schema/rustci.schema.json",
        "$comment": "generated by cargo xtask generate",
        "title": "RustCI documents",
        "oneOf": kinds,
    });
    // Whatever features serde_json is built with.
    schema.sort_all_objects();
    schema
}

fn metadata() -> Value {
    json!({
        "type": "object",
        "description": "Name, labels and annotations of the object.",
        "properties": {
            "name": {"type": "string", "maxLength": 63, "description": "Name of the object."},
            "generateName": {"type": "string", "description": "Start of a name that is made up."},
            "namespace": {"type": "string", "description": "Namespace of the object."},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    })
}

/// JSON Schema knows nothing of pruning and CEL: unknown fields are refused by name instead.
fn for_editors(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        return;
    };
    let open = fields.contains_key("x-kubernetes-preserve-unknown-fields");
    if fields.contains_key("x-kubernetes-int-or-string") {
        fields.insert("type".into(), json!(["integer", "string"]));
    }
    fields.extend(pattern(fields));
    fields.retain(|key, _| !key.starts_with("x-kubernetes-"));
    strip(fields, open);
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(for_editors);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            for_editors(inner);
        }
    }
}

/// A rule that is only a pattern, in the way editors know it.
fn pattern(fields: &Map<String, Value>) -> Vec<(String, Value)> {
    let rules = fields
        .get("x-kubernetes-validations")
        .and_then(Value::as_array);
    let found = rules.into_iter().flatten().find_map(|rule| {
        let (pattern, _) = rule["rule"]
            .as_str()?
            .strip_prefix("self.matches('")?
            .split_once("')")?;
        Some((pattern, rule["message"].clone()))
    });
    found.map_or_else(Vec::new, |(pattern, message)| {
        vec![
            ("pattern".into(), json!(pattern)),
            ("patternErrorMessage".into(), message),
        ]
    })
}

fn strip(fields: &mut Map<String, Value>, open: bool) {
    if open && !fields.contains_key("type") {
        // The value of a parameter: say its types, which the API server is told in another way.
        for key in [
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "multipleOf",
        ] {
            fields.remove(key);
        }
        fields.insert("type".into(), json!(["string", "integer", "boolean"]));
    }
    if fields.contains_key("properties") && !open {
        fields.insert("additionalProperties".into(), json!(false));
    }
}
