//! The names that completion offers at each kind of place.
//! Must not look at how they are written.

use serde_json::Value;

use crate::lsp::completion::complete;
use crate::lsp::position::Position;
use crate::lsp::reuse::Around;

const PLACES: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: orchard}
spec:
  concurrency: {group: '${{ HERE0 }}'}
  env: [{name: E, value: '${{ HERE1 }}'}]
  stepTemplates:
    - name: prune
      inputs: [{name: depth, default: '1'}]
      steps: [{name: cut, run: 'true', env: [{name: D, value: '${{ HERE2 }}'}]}]
      outputs: [{name: o, value: '${{ HERE3 }}'}]
  jobs:
    - name: pick
      image: i
      when: HERE4
      steps: [{name: s, run: 'true', when: HERE5}]
    - name: sort
      image: i
      needs: [pick]
      matrix: {axes: [{name: row, values: [1, 2]}]}
      when: HERE6
      env: [{name: E, value: '${{ HERE7 }}'}]
      steps: [{name: s, run: 'true'}]
      outputs: [{name: o, value: '${{ HERE8 }}'}]
    - name: bottle
      image: i
      needs: [sort]
      env: [{name: E, value: '${{ HERE9 }}'}]
      steps: [{name: s, run: 'true'}]
  finally:
    - name: sweep
      image: i
      when: HEREA
      env: [{name: E, value: '${{ HEREB }}'}]
      steps: [{name: s, run: 'true'}]
";

/// The completions behind `typed` at one place of `PLACES`, with `true` at all others.
fn items_at(place: &str, typed: &str) -> Vec<Value> {
    let (before, after) = PLACES.split_once(&format!("HERE{place}")).unwrap();
    let fill = |text: &str| {
        let mut parts = text.split("HERE");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |text, part| text + "true" + &part[1..])
    };
    let before = fill(before) + typed;
    let text = format!("{before}{}", fill(after));
    let at = Position {
        line: before.matches('\n').count(),
        character: before.rsplit('\n').next().unwrap().len(),
    };
    let answer = complete(&text, at, &Around::default()).unwrap();
    answer["items"].as_array().unwrap().clone()
}

fn offered_at(place: &str, typed: &str) -> Vec<String> {
    let label = |item: &Value| item["label"].as_str().unwrap().to_owned();
    items_at(place, typed).iter().map(label).collect()
}

#[test]
fn only_names_that_lint_takes_are_offered_at_each_place() {
    let common = ["source", "pipeline", "run"];
    for (place, special) in [
        ("0", vec!["params"]),
        ("1", vec!["params"]),
        ("2", vec!["inputs"]),
        ("3", vec!["inputs", "steps"]),
        ("4", vec!["params", "jobs"]),
        ("5", vec!["params", "jobs"]),
        ("6", vec!["params", "jobs"]),
        ("7", vec!["params", "jobs", "matrix"]),
        ("8", vec!["params", "jobs", "steps", "matrix"]),
        ("9", vec!["params", "jobs"]),
        ("A", vec!["params", "jobs"]),
    ] {
        let mut offered = offered_at(place, "");
        offered.retain(|name| !name.ends_with("()"));
        assert_eq!(offered, [&special[..], &common].concat(), "place {place}");
    }
    for place in ["0", "1", "2", "3"] {
        assert_eq!(offered_at(place, "jobs."), [""; 0], "place {place}");
    }
    assert_eq!(offered_at("6", "matrix."), [""; 0]);
    assert_eq!(offered_at("4", "steps."), [""; 0]);
}

#[test]
fn the_jobs_that_have_ended_at_a_place_are_offered_there() {
    assert_eq!(offered_at("4", "jobs."), [""; 0]);
    assert_eq!(offered_at("7", "jobs."), ["pick"]);
    assert_eq!(
        offered_at("9", "jobs."),
        ["pick", "sort"],
        "also what sort needs"
    );
    for place in ["A", "B"] {
        assert_eq!(offered_at(place, "jobs."), ["pick", "sort", "bottle"]);
    }
    assert_eq!(offered_at("A", "jobs.pick."), ["result", "outputs"]);
    assert_eq!(offered_at("A", "jobs.sort."), ["result", "matrix"]);
    assert_eq!(offered_at("A", "jobs.sort.outputs."), [""; 0]);
}

#[test]
fn behind_the_result_of_a_job_its_values_are_offered() {
    let results = ["Succeeded", "Failed", "Skipped", "Cancelled"];
    for typed in [
        "jobs.pick.result == ",
        "jobs.pick.result != 'Fa",
        "jobs[\"pick\"].result ==",
    ] {
        assert_eq!(offered_at("A", typed), results, "{typed}");
    }
    let items = items_at("B", "jobs.pick.result == ");
    assert_eq!(
        items[0]["textEdit"]["newText"], "\"Succeeded\"",
        "a single quote would end the text in YAML"
    );
}
