//! Each character of a text must be found where it stands in the file.

use crate::lint::tree::{self, Content, Node};

/// The value of `a` with its text and where each of its characters was found.
fn value(yaml: &str) -> (Node, String) {
    let documents = tree::parse(yaml);
    let document = documents.into_iter().next().expect("a document");
    let document = document.expect("right YAML");
    let (_, value) = document.field("a").expect("a field");
    let text = value.value().as_str().expect("a text").to_owned();
    (value.clone(), text)
}

/// Asserts that `word` of the text of `a` is found at the place of its only mention in the file.
fn assert_found(yaml: &str, word: &str) {
    let (node, text) = value(yaml);
    let before = text.split(word).next().expect("a part");
    assert_ne!(before, text, "{word} is not in {text:?}");
    let Content::Scalar { origin, .. } = &node.content else {
        panic!("no scalar: {node:?}");
    };
    let origin = origin.as_ref().expect("an origin");
    let found = origin.place(yaml, &text, before.chars().count());
    let (number, line) = (yaml.lines().enumerate())
        .find(|(_, line)| line.contains(word))
        .expect("the word is in the file");
    let column = line.split(word).next().expect("a part").chars().count();
    assert_eq!(
        found,
        Some((number + 1, column + 1)),
        "{word} in {text:?} of {yaml}"
    );
}

#[test]
fn every_word_of_a_block_scalar_is_found_at_its_line_and_column() {
    let body = "\n\n   one two\n\n     three\n     four\n\n   five\n   sechß siebn\n\n\n   eight\n";
    for style in ['|', '>'] {
        for header in ["", "-", "+"] {
            let yaml = format!("a: {style}{header} # why{body}\n# end\nb: c\n");
            for word in [
                "one", "two", "three", "four", "five", "sechß", "siebn", "eight",
            ] {
                assert_found(&yaml, word);
                assert_found(&yaml.replace('\n', "\r\n"), word);
            }
        }
    }
}

#[test]
fn an_explicit_indentation_leaves_the_rest_to_the_text() {
    for header in ["|2", ">2", "|2-", ">-2", "|+2"] {
        let yaml = format!("a: {header}\n\n     one\n  two\n   three\n  four\n  five\nb: c\n");
        for word in ["one", "two", "three", "four", "five"] {
            assert_found(&yaml, word);
        }
    }
}

#[test]
fn every_word_of_a_folded_text_in_quotes_or_without_is_found() {
    for yaml in [
        "a: one  two\n  three\n\n\n    four ü five\nb: c\n",
        "a: 'one ''two'' \n  three\n\n\n    four ü five'\nb: c\n",
        "a: \"\\u00fc one \\\"two\\x20\\\n  three \\\n\n   four \\t ü \n\n  five\"\nb: c\n",
        "a: &x !!str 'one two three four five'\n",
    ] {
        for word in ["one", "two", "three", "four", "five"] {
            assert_found(yaml, word);
            assert_found(&yaml.replace('\n', "\r\n"), word);
        }
    }
}

#[test]
fn the_end_of_a_text_is_behind_its_last_character() {
    let yaml = "a: |\n  one\n  two\n\nb: c\n";
    let (node, text) = value(yaml);
    let Content::Scalar {
        origin: Some(origin),
        ..
    } = &node.content
    else {
        panic!("no origin: {node:?}");
    };
    let end = text.chars().count();
    assert_eq!(origin.place(yaml, &text, end), Some((3, 6)));
    assert_eq!(
        origin.place(yaml, "another", 3),
        None,
        "the file says another"
    );
    assert_eq!(origin.place(yaml, "\n", 0), None, "there is no character");
}
