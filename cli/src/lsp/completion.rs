//! What may be written at the cursor: fields, values, names of jobs and params.
//! Must not offer what `lint` would refuse there.

use serde_json::{Value, json};

use super::cursor::{Cursor, Place};
use super::outline::{JobOutline, Named, Outline};
use super::position::{self, Position};
use super::reuse::{self, Around};
use super::scope::Scope;
use super::{cursor, document, expression, schema};

/// Numbers of the protocol's kinds of completions.
mod kind {
    pub(super) const FIELD: u8 = 5;
    pub(super) const VALUE: u8 = 12;
    pub(super) const REFERENCE: u8 = 18;
}

/// The completions at a place of a text.
pub(super) fn complete(text: &str, at: Position, around: &Around) -> Option<Value> {
    let line = position::line(text, at.line);
    let column = position::chars_before(line, at.character);
    let here = Here {
        text,
        line,
        number: at.line,
        column,
    };
    let kind = document::kind(text, at.line)?;
    let found = cursor::find(&document::before(text, at.line, column))?;
    let outline = || Outline::of(text, at.line);
    let items = if expression::is_inside(line, column, &found) {
        here.names_of_expression(&found, &outline())
    } else if found.ends_with(&["needs"]) {
        here.needs(&found, &outline())
    } else if let Some(names) = reuse::names(line, &found, &outline(), around) {
        let names = names.iter();
        names
            .map(|named| here.reference(named, &named.name, &found.word))
            .collect()
    } else {
        here.by_schema(kind, &found)
    };
    Some(json!({"isIncomplete": false, "items": items}))
}

/// The place of the cursor.
struct Here<'text> {
    text: &'text str,
    line: &'text str,
    number: usize,
    column: usize,
}

impl Here<'_> {
    fn by_schema(&self, kind: &str, found: &Cursor) -> Vec<Value> {
        if found.path == [cursor::Segment::Key("kind".to_owned())] {
            let kinds = schema::kinds().into_iter();
            return kinds
                .map(|name| self.item(name, kind::VALUE, name, &found.word))
                .collect();
        }
        let Some(node) = schema::at(kind, &found.path) else {
            return Vec::new();
        };
        let fields = schema::fields(node);
        if found.place == Place::Key && !fields.is_empty() {
            return fields
                .iter()
                .map(|field| self.field(field, &found.word))
                .collect();
        }
        let values = schema::values(node).into_iter();
        values
            .map(|value| self.item(&value, kind::VALUE, &value, &found.word))
            .collect()
    }

    fn field(&self, field: &schema::Field<'_>, word: &str) -> Value {
        let mut after = self.line.chars().skip(self.column);
        let has_colon = after.find(|c| !c.is_alphanumeric()) == Some(':');
        let end = match (has_colon, schema::is_nested(field.schema)) {
            (true, _) => "",
            (false, true) => ":",
            (false, false) => ": ",
        };
        let text = format!("{}{end}", field.name);
        let mut item = self.item(field.name, kind::FIELD, &text, word);
        item["detail"] = json!(schema::type_word(field.schema));
        item["documentation"] = json!({"kind": "markdown", "value": schema::documentation(field)});
        let order = if field.required { 0 } else { 1 };
        item["sortText"] = json!(format!("{order}{}", field.name));
        item
    }

    /// Jobs that this one may need: not itself, and none twice.
    fn needs(&self, found: &Cursor, outline: &Outline) -> Vec<Value> {
        let own = outline.job_at(found);
        let is_free = |other: &&JobOutline| {
            own.is_none_or(|own| {
                let name = &other.named.name;
                *name != own.named.name && (!own.needs.contains(name) || *name == found.word)
            })
        };
        let jobs = outline.jobs.iter().filter(is_free);
        jobs.map(|job| self.reference(&job.named, &job.named.name, &found.word))
            .collect()
    }

    fn names_of_expression(&self, found: &Cursor, outline: &Outline) -> Vec<Value> {
        if let Some(compared) = expression::compared(self.line, self.column) {
            let results = expression::RESULTS.into_iter();
            return results
                .map(|result| self.result(result, &compared))
                .collect();
        }
        let chain = expression::chain_at(self.line, self.column).unwrap_or_default();
        let mut parts: Vec<&str> = chain.parts.iter().map(|part| part.text.as_str()).collect();
        let word = parts.pop().unwrap_or_default();
        let mut names = Scope::at(outline, found).next(&parts);
        if parts.is_empty() && found.ends_with(&["when"]) {
            names.extend(expression::STATES.map(Named::of));
        }
        let in_brackets = self
            .line
            .chars()
            .nth(self.column.wrapping_sub(word.chars().count() + 1));
        let in_brackets = in_brackets.is_some_and(|before| ['"', '\''].contains(&before));
        names
            .iter()
            .map(|named| match named.name.contains('-') && !in_brackets {
                // A dash is a minus in CEL: the dot before the word gives way to brackets.
                true => {
                    self.reference(named, &format!("[\"{}\"]", named.name), &format!(".{word}"))
                }
                false => self.reference(named, &named.name, word),
            })
            .collect()
    }

    fn result(&self, result: &str, compared: &expression::Compared) -> Value {
        let text = format!("{}{result}{}", compared.before, compared.after);
        self.item(result, kind::VALUE, &text, &compared.word)
    }

    fn reference(&self, named: &Named, text: &str, word: &str) -> Value {
        let mut item = self.item(&named.name, kind::REFERENCE, text, word);
        if !named.about.is_empty() {
            item["documentation"] = json!({"kind": "markdown", "value": named.about});
        }
        // Editors compare this with what stands in the range.
        if word.starts_with('.') {
            item["filterText"] = json!(format!(".{}", named.name));
        }
        item
    }

    fn item(&self, label: &str, kind: u8, text: &str, word: &str) -> Value {
        let start = self.column.saturating_sub(word.chars().count());
        let range = position::range(self.text, self.number, start, self.column);
        json!({
            "label": label,
            "kind": kind,
            "textEdit": {"range": range, "newText": text},
        })
    }
}
