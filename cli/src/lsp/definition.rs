//! From a name to where it is declared: jobs, params, steps, outputs.
//! Must not look into other documents.

use serde_json::Value;

use super::hover::word;
use super::outline::{Named, Outline};
use super::position::{self, Position};
use super::{cursor, document, expression};

/// The range of the declaration of what stands at a place of a text.
pub(super) fn definition(text: &str, at: Position) -> Option<Value> {
    document::kind(text, at.line)?;
    let word = word(text, at)?;
    let found = cursor::find(&document::before(text, at.line, word.end))?;
    let outline = Outline::of(text, at.line);
    let column = position::chars_before(word.line, at.character);
    let named: Named = if expression::is_inside(word.line, column, &found) {
        let chain = expression::chain_at(word.line, column)?;
        let parts: Vec<&str> = chain.parts.iter().map(|part| part.text.as_str()).collect();
        expression::declaration(&parts, &outline, outline.job_at(&found))?
    } else if found.ends_with(&["needs"]) {
        outline.job(&word.text)?.named.clone()
    } else {
        return None;
    };
    let end = named.start + named.name.chars().count();
    Some(position::range(text, named.line, named.start, end))
}
