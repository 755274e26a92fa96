//! Places in a text: the protocol counts lines from 0 and UTF-16 units, `lint` from 1 and
//! characters.
//! Must not know what stands there.

use serde::Deserialize;
use serde_json::{Value, json};

/// A place as the protocol has it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub(super) struct Position {
    /// Line from 0.
    pub(super) line: usize,
    /// UTF-16 units from the start of the line.
    pub(super) character: usize,
}

/// The line of a text, from 0; empty beyond its end.
pub(super) fn line(text: &str, line: usize) -> &str {
    text.split('\n')
        .nth(line)
        .map_or("", |line| line.trim_end_matches('\r'))
}

/// Characters before a place of a line.
pub(super) fn chars_before(line: &str, units: usize) -> usize {
    let mut seen = 0;
    line.chars()
        .take_while(|character| {
            seen += character.len_utf16();
            seen <= units
        })
        .count()
}

/// UTF-16 units of the first characters of a line.
pub(super) fn units(line: &str, chars: usize) -> usize {
    line.chars().take(chars).map(char::len_utf16).sum()
}

/// The range from one character to another of a line, characters from 0.
pub(super) fn range(text: &str, number: usize, start: usize, end: usize) -> Value {
    let line = line(text, number);
    json!({
        "start": {"line": number, "character": units(line, start)},
        "end": {"line": number, "character": units(line, end)},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_count_as_two_units() {
        let line = "a🌲ü b";
        assert_eq!(units(line, 2), 3);
        assert_eq!(chars_before(line, 3), 2);
        assert_eq!(chars_before(line, 2), 1);
        assert_eq!(chars_before(line, 99), 5);
        let range = range("x\r\na🌲b\r\n", 1, 1, 2);
        assert_eq!(range["start"], json!({"line": 1, "character": 1}));
        assert_eq!(range["end"], json!({"line": 1, "character": 3}));
    }
}
