//! Where each character of a scalar's text stands in the file, whatever its style.
//! Must not decide what a text says: the parser has done that, and is believed.

use std::ops::ControlFlow::{self, Break, Continue};
use std::ops::Range;

use granit_parser::{ScalarStyle, Span};

/// What YAML takes for space inside of a text in quotes or without.
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// A scalar as it stands in the file.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    style: ScalarStyle,
    bytes: Range<usize>,
    start: Spot,
}

/// Line and column, from 1.
#[derive(Clone, Copy, Debug)]
struct Spot {
    line: usize,
    column: usize,
}

/// Ends with the place that is looked for, or with none where the file and the text differ.
type Walk = ControlFlow<Option<Spot>>;

/// Takes the characters of a text in turn, each with its place; none for one in an escape.
type Meet<'walk> = &'walk mut dyn FnMut(Option<char>, Spot) -> Walk;

impl Origin {
    pub(super) fn new(style: ScalarStyle, span: &Span) -> Option<Self> {
        Some(Self {
            style,
            bytes: span.byte_range()?,
            start: Spot {
                line: span.start.line().max(1),
                column: span.start.col() + 1,
            },
        })
    }

    /// Columns from the start of the scalar to its text: its quote.
    pub(crate) fn quote(&self) -> usize {
        usize::from(self.is_quoted())
    }

    fn is_quoted(&self) -> bool {
        let quoted = [ScalarStyle::SingleQuoted, ScalarStyle::DoubleQuoted];
        quoted.contains(&self.style)
    }

    /// Line and column, from 1, of the character of `text` at `offset`, from 0; none where that
    /// can't be told.
    pub(super) fn place(&self, file: &str, text: &str, offset: usize) -> Option<(usize, usize)> {
        let text = text.trim_end_matches('\n');
        let last = text.chars().count().checked_sub(1)?;
        let mut expected = text.chars().enumerate();
        let mut meet = |found: Option<char>, spot: Spot| match expected.next() {
            Some((at, wanted)) if found.is_none_or(|found| found == wanted) => {
                match at == offset.min(last) {
                    true => Break(Some(spot)),
                    false => Continue(()),
                }
            }
            _ => Break(None),
        };
        let source = file.get(self.bytes.clone())?;
        let walk = match self.style {
            ScalarStyle::Literal | ScalarStyle::Folded => self.block(source, text, &mut meet),
            _ => self.flow(source, &mut meet),
        };
        let Break(Some(Spot { line, column })) = walk else {
            return None;
        };
        Some((line, column + usize::from(offset > last)))
    }

    /// Walks through a block scalar, from the first character of its first line that is not empty.
    fn block(&self, source: &str, text: &str, meet: Meet<'_>) -> Walk {
        let indentation = self.start.column - 1;
        repeat(leading_breaks(text), self.start, meet)?;
        let (mut end, mut empty, mut was_indented) = (self.start, 0, false);
        for (number, line) in source.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let spaces = line.bytes().take_while(|byte| *byte == b' ').count();
            let before = match number {
                0 => 0,
                _ => spaces.min(indentation),
            };
            let line = &line[before..];
            if line.is_empty() {
                empty += 1;
                continue;
            }
            let is_indented = line.starts_with([' ', '\t']);
            if number > 0 {
                let is_folded = self.style == ScalarStyle::Folded && !was_indented && !is_indented;
                match (is_folded, empty) {
                    (true, 0) => meet(Some(' '), end)?,
                    (true, _) => {}
                    (false, _) => meet(Some('\n'), end)?,
                }
                repeat(empty, end, meet)?;
                end = Spot {
                    line: self.start.line + number,
                    column: before + 1,
                };
            }
            for character in line.chars() {
                meet(Some(character), end)?;
                end.column += 1;
            }
            (empty, was_indented) = (0, is_indented);
        }
        Continue(())
    }

    /// Walks through a scalar in quotes or without, whose lines are folded.
    fn flow(&self, source: &str, meet: Meet<'_>) -> Walk {
        let mut rest = source.get(self.quote()..).unwrap_or_default();
        let mut spot = self.start;
        spot.column += self.quote();
        while let Some(first) = rest.chars().next() {
            let length = match (first, self.style) {
                (blank, _) if BLANK.contains(&blank) => {
                    let blanks = leading_blanks(rest);
                    folded(blanks, spot, meet)?;
                    blanks.len()
                }
                ('\\', ScalarStyle::DoubleQuoted) => escape(rest, spot, meet)?,
                ('\'', ScalarStyle::SingleQuoted) => {
                    meet(Some('\''), spot)?;
                    "''".len()
                }
                _ => {
                    meet(Some(first), spot)?;
                    first.len_utf8()
                }
            };
            let Some((taken, after)) = rest.split_at_checked(length) else {
                return Break(None);
            };
            spot = spot.after(taken);
            rest = after;
        }
        Continue(())
    }
}

impl Spot {
    fn after(self, taken: &str) -> Self {
        taken.chars().fold(self, |spot, character| match character {
            '\n' => Self {
                line: spot.line + 1,
                column: 1,
            },
            _ => Self {
                column: spot.column + 1,
                ..spot
            },
        })
    }
}

fn leading_breaks(text: &str) -> usize {
    text.len() - text.trim_start_matches('\n').len()
}

fn leading_blanks(text: &str) -> &str {
    let blanks = text.len() - text.trim_start_matches(BLANK).len();
    &text[..blanks]
}

fn repeat(breaks: usize, spot: Spot, meet: Meet<'_>) -> Walk {
    (0..breaks).try_for_each(|_| meet(Some('\n'), spot))
}

/// Blanks of one line stay, a line's end is a space, and each empty line is a line break.
fn folded(blanks: &str, spot: Spot, meet: Meet<'_>) -> Walk {
    match blanks.matches('\n').count() {
        0 => blanks.chars().enumerate().try_for_each(|(at, blank)| {
            let column = spot.column + at;
            meet(Some(blank), Spot { column, ..spot })
        }),
        1 => meet(Some(' '), spot),
        breaks => repeat(breaks - 1, spot, meet),
    }
}

/// The bytes of an escape in double quotes. One before a line's end joins the lines.
fn escape(rest: &str, spot: Spot, meet: Meet<'_>) -> ControlFlow<Option<Spot>, usize> {
    let after = &rest[1..];
    if after.starts_with(['\r', '\n']) {
        let blanks = leading_blanks(after);
        repeat(blanks.matches('\n').count().saturating_sub(1), spot, meet)?;
        return Continue(1 + blanks.len());
    }
    meet(None, spot)?;
    let sign = after.chars().next().unwrap_or_default();
    let digits = match sign {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    Continue(1 + sign.len_utf8() + digits)
}

#[cfg(test)]
mod tests;
