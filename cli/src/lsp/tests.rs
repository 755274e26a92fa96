//! The server's answers to half-written documents: nothing may make it panic.

use std::collections::HashMap;

use super::position::Position;
use super::reuse::Around;
use super::{completion, definition, diagnostics, hover};
use crate::library::Pipelines;

const TEXT: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: orchard}
spec:
  params:
    - {name: fruit, default: \"äpfel 🌲\"}
  jobs:
    - name: pick
      image: ladder
      matrix: {axes: [{name: row, values: [1, 2]}]}
      steps:
        - {name: climb, run: 'true', when: always()}
        - name: grab
          run: |
            echo \"${{ no.expression }}\"
      outputs: [{name: weight, value: '${{ steps[\"climb\"].outputs.kilos }}'}]
    - name: press-all
      needs: [pick]
      when: jobs.pick.result == 'Succeeded'
";

/// Asks everything about a place; gives how many answers there were.
fn ask(text: &str, line: usize, character: usize) -> usize {
    let at = Position { line, character };
    let around = Around::of("untitled:1", text, &HashMap::new());
    let answers = [
        completion::complete(text, at, &around),
        hover::hover(text, at, &around),
        definition::definition(text, at, &around),
    ];
    answers.into_iter().flatten().count()
}

#[test]
fn every_beginning_of_a_document_can_be_asked_about_at_its_end() {
    let mut answers = 0;
    for (end, _) in TEXT.char_indices() {
        let text = &TEXT[..end];
        let line = text.matches('\n').count();
        let last = text.rsplit('\n').next().unwrap();
        answers += ask(text, line, last.encode_utf16().count());
    }
    assert!(answers > TEXT.len() / 2, "{answers}");
}

#[test]
fn every_place_of_a_document_can_be_asked_about_and_places_beyond_it_too() {
    for (number, line) in TEXT.lines().enumerate() {
        for character in 0..=line.encode_utf16().count() + 1 {
            ask(TEXT, number, character);
        }
    }
    assert_eq!(ask(TEXT, 10_000, 10_000), 1, "completion of nothing");
    ask("", 0, 0);
}

#[test]
fn a_document_that_lacks_a_piece_has_mistakes_with_places_in_it() {
    let chars: Vec<char> = TEXT.chars().collect();
    for start in (0..chars.len()).step_by(13) {
        let mut text = chars.clone();
        text.drain(start..(start + 5).min(chars.len()));
        let text: String = text.into_iter().collect();
        let lines = text.split('\n').count() as u64;
        for found in diagnostics::diagnostics(&text, &Pipelines::of_text(&text)) {
            let line = found["range"]["start"]["line"].as_u64().unwrap();
            assert!(line <= lines, "{found} in\n{text}");
        }
    }
}
