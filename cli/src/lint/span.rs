//! How far the word goes that a finding marks.
//! Must not know YAML beyond quotes and brackets.

/// Column after the last character of what starts at `column`, both from 1: a text in quotes, else
/// a word up to a blank or a sign of YAML.
pub(super) fn end(source: &str, column: usize) -> usize {
    let rest: Vec<char> = source.chars().skip(column.saturating_sub(1)).collect();
    let length = match rest.first() {
        None => 0,
        Some(quote @ ('"' | '\'')) => {
            let inner = rest.iter().skip(1).position(|c| c == quote);
            inner.map_or(rest.len(), |inner| inner + 2)
        }
        Some(_) => rest
            .iter()
            .position(|c| c.is_whitespace() || ",:[]{}".contains(*c))
            .unwrap_or(rest.len())
            .max(1),
    };
    column + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_ends_before_a_blank_or_a_sign_and_a_text_after_its_quote() {
        assert_eq!(end("  name: x", 3), 7);
        assert_eq!(end("{name: 'a b', c: d}", 8), 13);
        assert_eq!(end("[a, b]", 5), 6);
        assert_eq!(end("[a, b]", 1), 2);
        assert_eq!(end("\"open", 1), 6);
        assert_eq!(end("", 1), 1);
    }
}
