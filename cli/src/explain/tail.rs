//! The last lines of a log.
//! Must not keep more of it.

use crate::output::lines::{LineSplitter, safe};

/// Lines that are shown.
const LINES: usize = 10;
/// Characters that are shown of each.
const LINE_CHARS: usize = 400;

/// The last lines of a log, safe for a terminal.
pub fn last_lines(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |line: &[u8]| {
        if lines.len() == LINES {
            lines.remove(0);
        }
        lines.push(safe(line, false).chars().take(LINE_CHARS).collect());
    };
    let mut splitter = LineSplitter::default();
    splitter.push(bytes, &mut add);
    splitter.finish().iter().for_each(|line| add(line));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_made_safe() {
        let text: String = (0..30).map(|number| format!("{number}\n")).collect();
        let lines = last_lines(format!("{text}end \x1b[31mred").as_bytes());
        assert_eq!(lines.len(), LINES);
        assert_eq!((lines[0].as_str(), lines[9].as_str()), ("21", "end red"));
        assert!(last_lines(b"").is_empty());
    }
}
