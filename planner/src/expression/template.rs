//! Text with `${{ }}` in it: split, compiled, checked, evaluated.
//! Must not decide which fields hold templates.

use std::sync::Arc;

use cel::{ExecutionError, Program, Value};

use super::values::Evaluator;
use super::{Scope, check};

/// Longest expression, in bytes. Evaluation cost is bounded by it: no loop stands in a loop.
pub const MAX_EXPRESSION_LEN: usize = 1024;
/// Most expressions in one value.
pub const MAX_EXPRESSIONS: usize = 16;
/// Longest evaluated value, in bytes.
pub const MAX_VALUE_LEN: usize = 32 * 1024;

/// A compiled and checked value: text and expressions.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Expression {
        source: String,
        program: Arc<Program>,
    },
}

/// What is wrong in a template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// Column in the value, in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

impl Template {
    /// Compiles a value. `$${{` stands for the text `${{`.
    pub fn parse(value: &str, scope: &Scope<'_>) -> Result<Self, Vec<Mistake>> {
        let mut parts = Vec::new();
        let mut mistakes = Vec::new();
        for piece in split(value).map_err(|mistake| vec![mistake])? {
            match piece {
                Piece::Text(text) => parts.push(Part::Text(text)),
                Piece::Expression { source, offset } => match compile(source, scope) {
                    Ok(program) => {
                        let (source, program) = (source.trim().to_owned(), Arc::new(program));
                        parts.push(Part::Expression { source, program });
                    }
                    Err(found) => {
                        let before = value[..offset].chars().count();
                        mistakes.extend(found.into_iter().map(|m| Mistake {
                            column: m.column + before,
                            ..m
                        }));
                    }
                },
            }
        }
        let expressions = parts
            .iter()
            .filter(|part| matches!(part, Part::Expression { .. }));
        if expressions.count() > MAX_EXPRESSIONS {
            mistakes.push(Mistake {
                column: 1,
                message: format!("the value has more than {MAX_EXPRESSIONS} expressions"),
                remedy: "use several variables".to_owned(),
            });
        }
        if mistakes.is_empty() {
            Ok(Self { parts })
        } else {
            Err(mistakes)
        }
    }

    /// The value, with every expression replaced by its result.
    pub fn evaluate(&self, evaluator: &Evaluator) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Expression { source, program } => {
                    let result = evaluator.execute(program);
                    let value = result.map_err(|error| explain(source, &in_words(&error)))?;
                    text.push_str(&as_text(value).map_err(|error| explain(source, &error))?);
                }
            }
            if text.len() > MAX_VALUE_LEN {
                return Err(format!("the value is larger than {MAX_VALUE_LEN} bytes"));
            }
        }
        Ok(text)
    }
}

fn explain(source: &str, error: &str) -> String {
    format!("`${{{{ {source} }}}}` can't be evaluated: {error}")
}

fn in_words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => {
            format!(
                "there is no `{key}`; a step's outputs are those that it writes to $RUSTCI_OUTPUT"
            )
        }
        other => other.to_string(),
    }
}

fn as_text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.as_str().to_owned()),
        Value::Int(number) => Ok(number.to_string()),
        Value::UInt(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        other => Err(format!(
            "the result is a {}, not text, a number or true/false",
            other.type_of()
        )),
    }
}

fn compile(source: &str, scope: &Scope<'_>) -> Result<Program, Vec<Mistake>> {
    let mistake = |column, message: String, remedy: &str| {
        vec![Mistake {
            column,
            message,
            remedy: remedy.to_owned(),
        }]
    };
    if source.trim().is_empty() {
        return Err(mistake(
            1,
            "the expression is empty".to_owned(),
            "write one between {{ and }}",
        ));
    }
    if source.len() > MAX_EXPRESSION_LEN {
        let message = format!("the expression is longer than {MAX_EXPRESSION_LEN} bytes");
        return Err(mistake(1, message, "compute the value in a step"));
    }
    let program = Program::compile(source).map_err(|errors| {
        // The parser's later errors are mostly echoes of the first one.
        let first = errors.errors.first();
        let column = first.map_or(0, |error| error.pos.1).max(1);
        let message = first.map_or("the expression can't be read", |error| error.msg.as_str());
        mistake(
            column.unsigned_abs(),
            format!("syntax error: {}", tidy(message)),
            "",
        )
    })?;
    let mistakes = check::check(&program, source, scope);
    if mistakes.is_empty() {
        Ok(program)
    } else {
        Err(mistakes)
    }
}

/// The parser's message without its own prefix and list of tokens.
fn tidy(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    message
        .split(" expecting ")
        .next()
        .unwrap_or(message)
        .to_owned()
}

enum Piece<'a> {
    Text(String),
    Expression { source: &'a str, offset: usize },
}

fn split(value: &str) -> Result<Vec<Piece<'_>>, Mistake> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut at = 0;
    while let Some(found) = value[at..].find("${{") {
        let start = at + found;
        if value[..start].ends_with('$') {
            text.push_str(&value[at..start - 1]);
            text.push_str("${{");
            at = start + 3;
            continue;
        }
        text.push_str(&value[at..start]);
        let inner = start + 3;
        let Some(end) = expression_end(&value[inner..]) else {
            return Err(Mistake {
                column: value[..start].chars().count() + 1,
                message: "the expression has no end".to_owned(),
                remedy: "close it with }}, or write $${{ for the plain text".to_owned(),
            });
        };
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(Piece::Expression {
            source: &value[inner..inner + end],
            offset: inner,
        });
        at = inner + end + 2;
    }
    text.push_str(&value[at..]);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// Where `}}` ends an expression: not in a string, and not where braces of a map are open.
fn expression_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0;
    let mut quote = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'{') => depth += 1,
            (None, b'}') if depth > 0 => depth -= 1,
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (None, _) => {}
        }
        at += 1;
    }
    None
}
