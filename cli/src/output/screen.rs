//! Standard output with, on a terminal, a small block of status lines that stays at the bottom.
//! Must not know what the lines mean.

use std::fmt::Write as _;
use std::io::{self, Write};

/// Height and width taken when the terminal does not tell its own.
const DEFAULT_SIZE: (usize, usize) = (24, 80);

/// Where lines go.
pub struct Screen {
    out: Box<dyn Write + Send>,
    /// Lines of the block that are on the terminal now.
    drawn: usize,
    /// Text not yet written.
    pending: String,
    /// The block to draw at the next flush.
    block: Vec<String>,
    terminal: Option<Terminal>,
}

/// What a terminal can do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Terminal {
    /// Colours are wanted.
    pub colors: bool,
    /// The block at the bottom is wanted.
    pub block: bool,
}

impl Terminal {
    /// The terminal behind standard output; none when it is a file or a pipe. Colours are off with
    /// `NO_COLOR` (<https://no-color.org>), both are off for `TERM=dumb`.
    pub fn of_stdout() -> Option<Self> {
        use std::io::IsTerminal;
        if !io::stdout().is_terminal() {
            return None;
        }
        let able = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Some(Self {
            colors: able && !no_color,
            block: able,
        })
    }
}

impl Screen {
    /// A screen that writes to `out`.
    pub fn new(out: Box<dyn Write + Send>, terminal: Option<Terminal>) -> Self {
        Self {
            out,
            drawn: 0,
            pending: String::new(),
            block: Vec::new(),
            terminal,
        }
    }

    /// Standard output.
    pub fn stdout() -> Self {
        Self::new(Box::new(io::stdout()), Terminal::of_stdout())
    }

    /// True when colours are wanted.
    pub fn colors(&self) -> bool {
        self.terminal.is_some_and(|terminal| terminal.colors)
    }

    /// True when there is a block at the bottom.
    pub fn has_block(&self) -> bool {
        self.terminal.is_some_and(|terminal| terminal.block)
    }

    /// Prints a line above the block at the next flush.
    pub fn line(&mut self, text: &str) {
        self.pending.push_str(text);
        self.pending.push('\n');
    }

    /// Sets the lines of the block; nothing happens where there is none.
    pub fn set_block(&mut self, lines: Vec<String>) {
        if self.has_block() {
            self.block = lines;
        }
    }

    /// Writes what is pending and draws the block again.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut text = String::with_capacity(self.pending.len() + 256);
        if self.drawn > 0 {
            // To the start of the block's first line, whatever was typed since, and clear from
            // there on.
            let _ = write!(text, "\r\x1b[{}A\x1b[J", self.drawn);
        }
        text.push_str(&self.pending);
        self.pending.clear();
        self.drawn = 0;
        if self.has_block() {
            let (height, width) = size();
            let shown = self.block.len().min(height.saturating_sub(2));
            for line in &self.block[..shown] {
                text.push_str(&cut(line, width.saturating_sub(1)));
                text.push('\n');
            }
            self.drawn = shown;
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// Height and width of the terminal.
fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or(DEFAULT_SIZE, |(width, height)| {
        (usize::from(height.0), usize::from(width.0))
    })
}

/// Cuts a line to a width; colour sequences take no room, and a cut line ends without colour.
fn cut(line: &str, width: usize) -> String {
    let mut room = width;
    let mut in_sequence = false;
    for (at, character) in line.char_indices() {
        match character {
            '\x1b' => in_sequence = true,
            'm' if in_sequence => in_sequence = false,
            _ if in_sequence => {}
            _ if room == 0 => return format!("{}\x1b[0m", &line[..at]),
            _ => room -= 1,
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(terminal: Option<Terminal>) -> String {
        let shared = Shared::default();
        let mut screen = Screen::new(Box::new(shared.clone()), terminal);
        screen.set_block(vec!["oak running".to_owned(), "elm waiting".to_owned()]);
        screen.line("first");
        screen.flush().unwrap();
        screen.line("second");
        screen.set_block(Vec::new());
        screen.flush().unwrap();
        String::from_utf8(shared.0.lock().clone()).unwrap()
    }

    #[test]
    fn the_block_stays_below_the_lines_and_leaves_nothing_behind() {
        let terminal = Terminal {
            colors: false,
            block: true,
        };
        assert_eq!(
            written(Some(terminal)),
            "first\noak running\nelm waiting\n\r\x1b[2A\x1b[Jsecond\n"
        );
    }

    #[test]
    fn without_a_terminal_there_are_only_lines() {
        assert_eq!(written(None), "first\nsecond\n");
    }

    #[test]
    fn a_line_of_the_block_never_wraps_and_colors_take_no_room() {
        assert_eq!(cut("\x1b[31mabcdef\x1b[0m", 3), "\x1b[31mabc\x1b[0m");
        assert_eq!(cut("abc", 3), "abc");
    }
}
