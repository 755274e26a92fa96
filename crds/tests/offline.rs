//! The example documents get the verdicts that their folders say, without an API server.
//! Must not need a cluster: `api_server.rs` asks a real one for the same verdicts.

#[path = "table/examples.rs"]
mod table;

use crds::offline::{Violation, check, check_update};
use serde_json::Value;

fn kind(document: &Value) -> &str {
    document["kind"].as_str().expect("an example has a kind")
}

fn words(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

fn verdict(example: &table::Example) -> Vec<Violation> {
    match example.documents.as_slice() {
        [new] => check(kind(new), new),
        [old, new] => {
            let before = check(kind(old), old);
            assert!(
                before.is_empty(),
                "{}: first document: {}",
                example.file,
                words(&before)
            );
            check_update(kind(new), old, new)
        }
        _ => panic!("{}: one document, or two for an update", example.file),
    }
}

#[test]
fn every_example_has_the_verdict_of_its_folder() {
    let mut wrong = Vec::new();
    for example in table::all() {
        let words = words(&verdict(&example));
        let right = match &example.expect {
            None => words.is_empty(),
            Some(part) => words.contains(part.as_str()),
        };
        if !right {
            wrong.push(format!(
                "{}: {:?}, got:\n{words}\n",
                example.file, example.expect
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_refused_example_and_every_kind_an_accepted_one() {
    let examples = table::all();
    let mut missing = Vec::new();
    for definition in crds::definition::all() {
        let kind = definition.spec.names.kind.as_str();
        assert!(
            examples.iter().any(|example| {
                example.expect.is_none() && example.documents[0]["kind"] == kind
            })
        );
        let schema = crds::definition::schema(kind).expect("a definition has a schema");
        for message in rule_messages(&schema) {
            let shown = examples.iter().any(|example| {
                example
                    .expect
                    .as_ref()
                    .is_some_and(|part| message.contains(part.as_str()))
            });
            if !shown {
                missing.push(message);
            }
        }
    }
    assert!(missing.is_empty(), "no refused example for: {missing:#?}");
}

#[test]
fn every_rule_has_a_sentence_that_says_what_to_do() {
    for definition in crds::definition::all() {
        let kind = definition.spec.names.kind.as_str();
        let schema = crds::definition::schema(kind).expect("a definition has a schema");
        for message in rule_messages(&schema) {
            let sentence = message.ends_with('.')
                && (message.contains(": ") || message.starts_with("Set "))
                && !message.contains('\n');
            assert!(sentence, "{message:?}");
        }
    }
}

#[test]
fn every_violation_that_is_no_rule_has_a_remedy() {
    for example in table::all() {
        for violation in verdict(&example) {
            let told = !violation.remedy.is_empty() || violation.message.ends_with('.');
            assert!(told, "{}: {violation}", example.file);
        }
    }
}

#[test]
fn kinds_of_others_are_not_judged() {
    assert!(check("ConfigMap", &serde_json::json!({"data": 1})).is_empty());
    assert!(!crds::offline::knows("ConfigMap"));
    assert!(crds::offline::knows("PipelineRun"));
}

fn rule_messages(schema: &Value) -> Vec<String> {
    let mut messages = Vec::new();
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "x-kubernetes-validations" {
                    for rule in value.as_array().into_iter().flatten() {
                        messages.push(rule["message"].as_str().unwrap_or_default().to_owned());
                    }
                } else {
                    messages.extend(rule_messages(value));
                }
            }
        }
        Value::Array(items) => messages.extend(items.iter().flat_map(rule_messages)),
        _ => {}
    }
    messages.sort();
    messages.dedup();
    messages
}
