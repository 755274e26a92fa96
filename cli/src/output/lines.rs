//! Turns the raw bytes of a step's log into lines that are safe to print.
//! Must not print, and must not hold more than one unfinished line.

use std::borrow::Cow;

/// Longest line in bytes; a longer one is shown in pieces.
const LINE_LIMIT: usize = 16 * 1024;

/// Cuts a byte stream into lines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    unfinished: Vec<u8>,
}

impl LineSplitter {
    /// Takes the next bytes and calls `each` with every line that they finish, without its end.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LINE_LIMIT - self.unfinished.len();
            let window = &bytes[..bytes.len().min(room)];
            let (taken, finished) = match window.iter().position(|&byte| byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (window.len(), window.len() == room),
            };
            let piece = window[..taken]
                .strip_suffix(b"\n")
                .unwrap_or(&window[..taken]);
            if finished && self.unfinished.is_empty() {
                each(piece);
            } else {
                self.unfinished.extend_from_slice(piece);
                if finished {
                    each(&self.unfinished);
                    self.unfinished.clear();
                }
            }
            bytes = &bytes[taken..];
        }
    }

    /// Ends the stream: the last line, when it had no end.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        (!self.unfinished.is_empty()).then(|| std::mem::take(&mut self.unfinished))
    }
}

/// The text of one line that cannot harm a terminal: bytes that are not UTF-8 become U+FFFD, of
/// text overwritten by a carriage return the last version counts, control characters and escape
/// sequences are taken out. With `colors`, the sequences that set colours stay.
pub fn safe(line: &[u8], colors: bool) -> String {
    let text = match String::from_utf8_lossy(line) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    };
    let text = text.trim_end_matches('\r');
    let text = text.rsplit('\r').next().unwrap_or(text);
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len());
    let mut colored = false;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if character == '\u{1b}' {
            let (sequence, after) = escape_sequence(rest);
            if colors && is_color(sequence) {
                safe.push_str(sequence);
                colored = true;
            }
            rest = after;
            continue;
        }
        if character == '\t' || !character.is_control() {
            safe.push(character);
        }
        rest = &rest[character.len_utf8()..];
    }
    if colored {
        safe.push_str("\u{1b}[0m");
    }
    safe
}

/// Splits an escape sequence (ECMA-48: CSI, the string sequences, two-character ones) off a text
/// that starts with ESC.
fn escape_sequence(text: &str) -> (&str, &str) {
    let body = &text[1..];
    let end = match body.chars().next() {
        None => 0,
        Some('[') => body[1..]
            .find(|c| ('@'..='~').contains(&c))
            .map_or(body.len(), |at| at + 2),
        Some(']' | 'P' | 'X' | '^' | '_') => string_sequence_end(body),
        Some(character) => character.len_utf8(),
    };
    text.split_at(1 + end)
}

/// Where a string sequence ends: after BEL or ESC \, else at the end of the text.
fn string_sequence_end(body: &str) -> usize {
    let bell = body.find('\u{7}').map(|at| at + 1);
    let terminator = body.find("\u{1b}\\").map(|at| at + 2);
    [bell, terminator]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(body.len())
}

/// True for `ESC [ digits and semicolons m`.
fn is_color(sequence: &str) -> bool {
    sequence
        .strip_prefix("\u{1b}[")
        .and_then(|rest| rest.strip_suffix('m'))
        .is_some_and(|inner| {
            inner
                .chars()
                .all(|c| c.is_ascii_digit() || c == ';' || c == ':')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, |line| lines.push(line.to_vec()));
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_are_cut() {
        let text = b"one\n\ntwo\r\nthree";
        let whole = split(&[text]);
        assert_eq!(whole, [&b"one"[..], b"", b"two\r", b"three"]);
        for cut in 0..text.len() {
            assert_eq!(split(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_without_end_comes_out_in_bounded_pieces() {
        let lines = split(&[&vec![b'x'; LINE_LIMIT * 2 + 5]]);
        assert_eq!(
            lines.iter().map(Vec::len).collect::<Vec<_>>(),
            [LINE_LIMIT, LINE_LIMIT, 5]
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_become_the_replacement_character() {
        assert_eq!(
            safe(b"caf\xe9 \xff\xfe", false),
            "caf\u{fffd} \u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn a_progress_bar_shows_its_last_state() {
        assert_eq!(safe(b" 10%\r 50%\r100%\r", false), "100%");
    }

    #[test]
    fn sequences_that_move_the_cursor_or_set_the_title_are_taken_out() {
        let line = b"a\x1b[2Jb\x1b]0;title\x07c\x1b]8;;x\x1b\\d\x1b7e\x08\x00f";
        assert_eq!(safe(line, true), "abcdef");
        assert_eq!(safe(b"cut \x1b[3", true), "cut ");
        assert_eq!(safe(b"cut \x1b", true), "cut ");
        assert_eq!(safe("c1 \u{9b}2J".as_bytes(), true), "c1 2J");
    }

    #[test]
    fn colors_stay_when_wanted_and_are_closed_at_the_end_of_the_line() {
        let line = b"\x1b[1;31mred\x1b[K";
        assert_eq!(safe(line, true), "\x1b[1;31mred\x1b[0m");
        assert_eq!(safe(line, false), "red");
    }
}
