//! From a name to where it is declared: jobs, params, steps, outputs, and what is used of others.
//! Must not look into other documents but for what is used.

use serde_json::{Value, json};

use super::hover::word;
use super::outline::{Named, Outline};
use super::position::{self, Position};
use super::reuse::{self, Around};
use super::scope::Scope;
use super::{cursor, document, expression, uri};

/// Where that is declared which stands at a place of a text: its range, and its file if it is
/// another one.
pub(super) fn definition(text: &str, at: Position, around: &Around) -> Option<Value> {
    document::kind(text, at.line)?;
    let word = word(text, at)?;
    let found = cursor::find(&document::before(text, at.line, word.end))?;
    let outline = Outline::of(text, at.line);
    let column = position::chars_before(word.line, at.character);
    let named: Named = if expression::is_inside(word.line, column, &found) {
        let chain = expression::chain_at(word.line, column)?;
        let parts: Vec<&str> = chain.parts.iter().map(|part| part.text.as_str()).collect();
        Scope::at(&outline, &found).declaration(&parts)?
    } else if found.ends_with(&["needs"]) {
        outline.job(&word.text)?.named.clone()
    } else {
        let used = reuse::declaration(&word.text, word.line, &found, &outline, around);
        let (file, other, named) = used?;
        let text = if other.is_empty() { text } else { &other };
        let mut place = place(text, &named);
        if let Some(file) = file {
            place["uri"] = json!(uri::of(&file));
        }
        return Some(place);
    };
    Some(place(text, &named))
}

fn place(text: &str, named: &Named) -> Value {
    let end = named.start + named.name.chars().count();
    json!({"range": position::range(text, named.line, named.start, end)})
}
