//! What stands under the mouse: the documentation of fields, the declaration of names.
//! Must not say anything but what the schemas, the documents and the meanings of names say.

use serde_json::{Value, json};

use super::cursor::{Cursor, Place, Segment};
use super::outline::Outline;
use super::position::{self, Position};
use super::reuse::{self, Around};
use super::scope::Scope;
use super::{cursor, document, expression, meaning, schema};

/// The word at a place of a text.
pub(super) struct Word<'text> {
    pub(super) line: &'text str,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) text: String,
}

/// What is to be said at a place of a text.
pub(super) fn hover(text: &str, at: Position, around: &Around) -> Option<Value> {
    let kind = document::kind(text, at.line)?;
    let word = word(text, at)?;
    let found = cursor::find(&document::before(text, at.line, word.end))?;
    let column = position::chars_before(word.line, at.character);
    let said = if expression::is_inside(word.line, column, &found) {
        of_expression(text, at.line, &word, column, &found)
    } else if found.ends_with(&["needs"]) && matches!(found.path.last(), Some(Segment::Item(_))) {
        let outline = Outline::of(text, at.line);
        outline
            .job(&word.text)
            .map(|job| format!("job **{}**\n\n{}", word.text, job.named.about))
    } else {
        let outline = Outline::of(text, at.line);
        reuse::about(&word.text, word.line, &found, &outline, around)
            .or_else(|| of_field(kind, &word, found))
    };
    said.map(|value| {
        json!({
            "contents": {"kind": "markdown", "value": value},
            "range": position::range(text, at.line, word.start, word.end),
        })
    })
}

/// The word around a place; none between words.
pub(super) fn word(text: &str, at: Position) -> Option<Word<'_>> {
    let line = position::line(text, at.line);
    let column = position::chars_before(line, at.character);
    let chars: Vec<char> = line.chars().collect();
    let is_part = |c: &char| c.is_alphanumeric() || "_-/".contains(*c);
    let before = chars[..column]
        .iter()
        .rev()
        .take_while(|c| is_part(c))
        .count();
    let after = chars[column..].iter().take_while(|c| is_part(c)).count();
    let (start, end) = (column - before, column + after);
    let text: String = chars[start..end].iter().collect();
    (start < end && text != "-").then_some(Word {
        line,
        start,
        end,
        text,
    })
}

fn of_expression(
    text: &str,
    line: usize,
    word: &Word<'_>,
    column: usize,
    found: &Cursor,
) -> Option<String> {
    let chain = expression::chain_at(word.line, column)?;
    let parts: Vec<&str> = chain.parts.iter().map(|part| part.text.as_str()).collect();
    let last = chain.parts.last()?;
    if word.line.chars().nth(last.end) == Some('(') {
        return meaning::of_function(&last.text);
    }
    let outline = Outline::of(text, line);
    match Scope::at(&outline, found).declaration(&parts) {
        Some(named) => Some(format!("**{}**\n\n{}", parts.join("."), named.about)),
        None => meaning::of_name(&parts),
    }
}

/// The documentation of the field whose key or value the word is.
fn of_field(kind: &str, word: &Word<'_>, found: Cursor) -> Option<String> {
    let mut path = found.path;
    let is_entry = matches!(path.last(), Some(Segment::Item(_)));
    let is_text = is_entry && !schema::at(kind, &path).is_some_and(schema::has_fields);
    if found.place == Place::Key && !is_text {
        path.push(Segment::Key(word.text.clone()));
    }
    while path
        .pop_if(|last| matches!(last, Segment::Item(_)))
        .is_some()
    {}
    let Some(Segment::Key(name)) = path.pop() else {
        return None;
    };
    let parent = schema::at(kind, &path)?;
    let fields = schema::fields(parent);
    let field = fields.iter().find(|field| field.name == name)?;
    Some(schema::documentation(field))
}
