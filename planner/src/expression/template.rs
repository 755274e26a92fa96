//! Text with `${{ }}` in it: split, compiled, checked, evaluated.
//! Must not decide which fields hold templates.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::{ExecutionError, Program, Value};

use super::files::{self, AgentPart};
use super::frame::{Frame, Reads};
use super::values::Evaluator;
use super::{Scope, Type, check};

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
    Expression(Expression),
}

/// One compiled and checked expression.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    /// Its text, for messages.
    pub(super) source: String,
    program: Arc<Program>,
    /// Type of its result, as far as it is known.
    pub(super) result: Type,
    /// True when its value is known to the agent only.
    hashes_files: bool,
    pub(super) uses: Uses,
    frame: Option<Closure>,
}

/// The frame that an expression was compiled in.
#[derive(Clone, Debug)]
struct Closure {
    frame: Arc<Frame>,
    /// What the expression reads of it.
    reads: Reads,
    /// The value that is all of the expression.
    bare: Option<usize>,
}

/// What an expression reads, so that nothing else has to be prepared for it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Uses {
    /// Jobs that it names.
    pub(crate) jobs: BTreeSet<String>,
    /// It reads `jobs` as a whole.
    pub(crate) all_jobs: bool,
    /// It calls `success()` or the like.
    pub(crate) status: bool,
    /// It reads a job's `result`.
    pub(crate) results: bool,
}

impl Uses {
    /// Adds what another expression reads.
    pub(crate) fn add(&mut self, other: &Self) {
        self.jobs.extend(other.jobs.iter().cloned());
        self.all_jobs |= other.all_jobs;
        self.status |= other.status;
        self.results |= other.results;
    }
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
                Piece::Expression { source, offset } => match text_of(source, scope) {
                    Ok(expression) => parts.push(Part::Expression(expression)),
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
            .filter(|part| matches!(part, Part::Expression(_)));
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

    /// The value, when it holds no expression.
    pub(crate) fn plain(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The expression, when the value is nothing else.
    pub(super) fn single(&self) -> Option<&Expression> {
        match self.parts.as_slice() {
            [Part::Expression(expression)] => Some(expression),
            _ => None,
        }
    }

    /// The type of the value, as far as it is known, when the value is one expression.
    pub(crate) fn single_type(&self) -> Option<Type> {
        self.single().map(|expression| expression.result)
    }

    /// What its expressions read.
    pub(crate) fn uses(&self) -> impl Iterator<Item = &Uses> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Expression(expression) => Some(&expression.uses),
        })
    }

    /// True when a part of the value is known to the agent only.
    pub(crate) fn is_for_agent(&self) -> bool {
        let is_for_agent = |part: &Part| match part {
            Part::Text(_) => false,
            Part::Expression(expression) => expression.hashes_files,
        };
        self.parts.iter().any(is_for_agent)
    }

    /// The value with every expression replaced that is known to the planner.
    pub(crate) fn evaluate_for_agent(
        &self,
        evaluator: &Evaluator<'_>,
    ) -> Result<Vec<AgentPart>, String> {
        let part = |part: &Part| match part {
            Part::Text(fixed) => Ok(AgentPart::Text(fixed.clone())),
            Part::Expression(expression) if expression.hashes_files => {
                let value = expression.evaluate(evaluator)?;
                let patterns = files::patterns(&value);
                let patterns = patterns.map_err(|error| expression.explain(&error))?;
                Ok(AgentPart::HashFiles(patterns))
            }
            Part::Expression(expression) => expression.text(evaluator).map(AgentPart::Text),
        };
        let parts: Vec<AgentPart> = self.parts.iter().map(part).collect::<Result<_, String>>()?;
        let length = parts.iter().map(|part| match part {
            AgentPart::Text(text) => text.len(),
            AgentPart::HashFiles(_) => 0,
        });
        bounded(length.sum())?;
        Ok(parts)
    }

    /// The value, with every expression replaced by its result.
    pub fn evaluate(&self, evaluator: &Evaluator<'_>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Expression(expression) => {
                    text.push_str(&expression.text(evaluator)?);
                }
            }
            bounded(text.len())?;
        }
        Ok(text)
    }
}

fn bounded(length: usize) -> Result<(), String> {
    if length > MAX_VALUE_LEN {
        return Err(format!("the value is larger than {MAX_VALUE_LEN} bytes"));
    }
    Ok(())
}

fn in_words(error: &ExecutionError, source: &str) -> String {
    match error {
        ExecutionError::NoSuchKey(key) if source.contains("steps") => {
            format!(
                "there is no `{key}`; a step's outputs are those that it writes to $RUSTCI_OUTPUT"
            )
        }
        ExecutionError::NoSuchKey(key) => format!("there is no `{key}`"),
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

/// An expression that stands in a text.
fn text_of(source: &str, scope: &Scope<'_>) -> Result<Expression, Vec<Mistake>> {
    let expression = Expression::compile(source, scope)?;
    match expression.result {
        Type::List | Type::Map | Type::Null | Type::Bytes => Err(vec![Mistake {
            column: 1 + source.len() - source.trim_start().len(),
            message: format!(
                "the result is {}, not text, a number or true/false",
                expression.result
            ),
            remedy: "make it text with toJson()".to_owned(),
        }]),
        _ => Ok(expression),
    }
}

impl Expression {
    pub(super) fn compile(source: &str, scope: &Scope<'_>) -> Result<Self, Vec<Mistake>> {
        let mistake = |column, message: String, remedy: &str| {
            vec![Mistake {
                column,
                message,
                remedy: remedy.to_owned(),
            }]
        };
        if source.trim().is_empty() {
            let remedy = "write one, such as params.name == 'x'";
            return Err(mistake(1, "the expression is empty".to_owned(), remedy));
        }
        if source.len() > MAX_EXPRESSION_LEN {
            let message = format!("the expression is longer than {MAX_EXPRESSION_LEN} bytes");
            return Err(mistake(1, message, "compute the value in a step"));
        }
        let program = Program::compile(source).map_err(|errors| {
            // The parser's later errors are mostly echoes of the first one.
            let first = errors.errors.first();
            let (line, column) = first.map_or((1, 1), |error| error.pos);
            let above = source
                .split_inclusive('\n')
                .take(usize::try_from(line - 1).unwrap_or(0));
            let above: usize = above.map(|line| line.chars().count()).sum();
            let column = above + column.max(1).unsigned_abs();
            let message = first.map_or("the expression can't be read", |error| error.msg.as_str());
            if message.contains("Recursion limit") {
                let message = "the expression is nested too deeply".to_owned();
                return mistake(1, message, "compute the value in a step");
            }
            mistake(column, format!("syntax error: {}", tidy(message)), "")
        })?;
        let found = check::check(&program, source, scope)?;
        Ok(Self {
            source: source.trim().to_owned(),
            program: Arc::new(program),
            result: found.result,
            hashes_files: found.hashes_files,
            uses: found.uses,
            frame: scope.frame.clone().map(|frame| {
                let source = source.trim();
                let bare = found.reads.first().copied();
                let bare = bare.filter(|binding| frame.is_bare(*binding, source));
                Closure {
                    frame,
                    reads: found.reads,
                    bare,
                }
            }),
        })
    }

    pub(super) fn evaluate(&self, evaluator: &Evaluator<'_>) -> Result<Value, String> {
        let result = match &self.frame {
            None => evaluator.execute(&self.program),
            Some(Closure {
                frame,
                bare: Some(binding),
                ..
            }) => return evaluator.bound(frame, *binding),
            Some(Closure { frame, reads, .. }) => {
                evaluator.execute_in(frame, reads, &self.program)?
            }
        };
        result.map_err(|error| self.explain(&in_words(&error, &self.source)))
    }

    fn text(&self, evaluator: &Evaluator<'_>) -> Result<String, String> {
        evaluator.once(&self.program, || {
            let value = self.evaluate(evaluator)?;
            as_text(value).map_err(|error| self.explain(&error))
        })
    }

    pub(super) fn explain(&self, error: &str) -> String {
        format!("`{}` can't be evaluated: {error}", self.source)
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
