//! The YAML document that a place of a text belongs to, and whether it is one of ours.
//! Must not need it to be right YAML.

/// Keys that a document of ours may have before its apiVersion is written.
const OUR_KEYS: [&str; 4] = ["kind", "metadata", "spec", "status"];

/// The text of the cursor's document up to the cursor.
pub(super) fn before(text: &str, line: usize, column: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (number, content) in text.split('\n').take(line + 1).enumerate() {
        let content = content.trim_end_matches('\r');
        match number == line {
            true => lines.push(content.chars().take(column).collect()),
            false if content.starts_with("---") => lines.clear(),
            false => lines.push(content.to_owned()),
        }
    }
    lines.join("\n")
}

/// The kind of the document that a line belongs to, Pipeline until one is written; none for a
/// document of others.
pub(super) fn kind(text: &str, line: usize) -> Option<&str> {
    let (mut version, mut kind) = (None, None);
    let mut has_other_keys = false;
    for (number, content) in text.split('\n').enumerate() {
        if content.starts_with("---") {
            if number > line {
                break;
            }
            (version, kind, has_other_keys) = (None, None, false);
            continue;
        }
        let Some((key, value)) = content.split_once(':') else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']);
        match key {
            "apiVersion" => version = Some(value),
            "kind" => kind = Some(value),
            // The line of the cursor may be half a word.
            _ if number == line || key.starts_with([' ', '#', '-', '{', '"']) => {}
            key => has_other_keys |= !OUR_KEYS.contains(&key),
        }
    }
    let is_ours = match version.filter(|version| !version.is_empty()) {
        Some(version) => version.split('/').next() == Some(crds::GROUP),
        None => !has_other_keys,
    };
    let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or("Pipeline");
    is_ours.then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_others_are_told_from_ours() {
        assert_eq!(kind("", 0), Some("Pipeline"));
        assert_eq!(kind("kind: Runner\nspec:\n  ", 2), Some("Runner"));
        let two = "apiVersion: v1\nkind: ConfigMap\n---\napiVersion: rustci.dev/v1alpha1\nspec:\n";
        assert_eq!(kind(two, 1), None);
        assert_eq!(kind(two, 4), Some("Pipeline"));
        assert_eq!(
            kind("apiVersion: tekton.dev/v1\nkind: Pipeline\nspec:\n  ", 3),
            None
        );
        assert_eq!(kind("services:\n  db:\n    ", 2), None);
        assert_eq!(kind("api", 0), Some("Pipeline"));
        assert_eq!(kind("apiVersion: \nkind: ", 1), Some("Pipeline"));
    }

    #[test]
    fn the_text_before_the_cursor_begins_with_its_document() {
        assert_eq!(before("a: 1\r\n---\r\nb: 2\r\nc: 3", 3, 1), "b: 2\nc");
        assert_eq!(before("a", 9, 9), "a");
    }
}
