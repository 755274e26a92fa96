//! What a finding marks and shows of its line.
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

/// Longest line that is shown whole, in bytes.
const MAX_WHOLE: usize = 400;
/// Of a longer one, most characters that are shown before the column, and from it on.
const BEFORE: usize = 50;
const AFTER: usize = 70;

/// The line of a finding, as far as it is shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Source {
    /// The line, or the part of it around the column.
    pub text: String,
    /// Characters of the line before that part.
    pub left_out: usize,
    /// True when the line goes on after it.
    pub goes_on: bool,
}

impl Source {
    /// What is shown of a line for a finding at `column`, from 1.
    pub(super) fn new(line: &str, column: usize) -> Self {
        if line.len() <= MAX_WHOLE {
            return Self {
                text: line.to_owned(),
                ..Self::default()
            };
        }
        let before = column.saturating_sub(1);
        let left_out = before.saturating_sub(BEFORE);
        let mut rest = line.chars().skip(left_out);
        let text = (rest.by_ref()).take(before - left_out + AFTER).collect();
        Self {
            text,
            left_out,
            goes_on: rest.next().is_some(),
        }
    }

    /// True when nothing of the line is left out.
    pub(super) fn is_whole(&self) -> bool {
        self.left_out == 0 && !self.goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_line_the_part_around_the_column_is_shown() {
        let line = "ä".repeat(100) + "x" + &"ü".repeat(200);
        let shown = Source::new(&line, 101);
        let text = "ä".repeat(BEFORE) + "x" + &"ü".repeat(AFTER - 1);
        assert_eq!(shown.text, text);
        assert_eq!((shown.left_out, shown.goes_on), (100 - BEFORE, true));
        let first = Source::new(&line, 1);
        assert_eq!(first.text, "ä".repeat(AFTER));
        assert_eq!((first.left_out, first.goes_on), (0, true));
        let last = Source::new(&line, 301);
        assert_eq!(last.text, "ü".repeat(BEFORE + 1));
        assert_eq!((last.left_out, last.goes_on), (300 - BEFORE, false));
        assert!(Source::new("  name: x", 3).is_whole());
        assert!(![shown, first, last].iter().any(Source::is_whole));
    }

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
