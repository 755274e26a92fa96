//! YAML documents as JSON values that know where each part stands in the text.
//! Must not know what the documents mean.

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::Value;

use super::{Problem, scalar};

/// Most nodes of one document, aliases expanded: a document of 3 MiB, the most that an API server
/// takes, has fewer.
const MAX_NODES: usize = 1_000_000;

/// A value and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Line and column, from 1.
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar {
        value: Value,
        /// Columns from the start of the scalar to its text, if the text stands as it is on that
        /// line: 0 without quotes, 1 with.
        text_at: Option<usize>,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) name: String,
}

impl Node {
    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar { value, .. } => value.clone(),
            Content::List(items) => items.iter().map(Node::value).collect(),
            Content::Map(fields) => fields
                .iter()
                .map(|(key, value)| (key.name.clone(), value.value()))
                .collect(),
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<(&Key, &Node)> {
        let Content::Map(fields) = &self.content else {
            return None;
        };
        fields
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(key, value)| (key, value))
    }

    fn size(&self) -> usize {
        1 + match &self.content {
            Content::Scalar { .. } => 0,
            Content::List(items) => items.iter().map(Node::size).sum(),
            Content::Map(fields) => fields.iter().map(|(_, value)| value.size()).sum(),
        }
    }
}

/// The documents of a text. A syntax error ends its document; the ones after it are read again.
pub(super) fn parse(text: &str) -> Vec<Result<Node, Problem>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    loop {
        let mut builder = Builder::new(text);
        match builder.document(&mut parser) {
            Ok(Some(document)) => {
                documents.extend(builder.problems.into_iter().map(Err));
                documents.push(Ok(document));
            }
            Ok(None) => return documents,
            Err(problem) => {
                documents.extend(builder.problems.into_iter().map(Err));
                documents.push(Err(problem));
                if !parser.proceed_next_document().unwrap_or(false) {
                    return documents;
                }
            }
        }
    }
}

/// Builds one document from events.
struct Builder<'text> {
    text: &'text str,
    /// Nodes with an anchor, by the parser's number for it.
    anchors: Vec<(usize, Node)>,
    nodes: usize,
    /// Duplicate keys: the document can be read all the same.
    problems: Vec<Problem>,
}

type Events<'text> = Parser<'text, granit_parser::StrInput<'text>>;

impl<'text> Builder<'text> {
    fn new(text: &'text str) -> Self {
        Self {
            text,
            anchors: Vec::new(),
            nodes: 0,
            problems: Vec::new(),
        }
    }

    /// The next document; none at the end of the text.
    fn document(&mut self, events: &mut Events<'text>) -> Result<Option<Node>, Problem> {
        loop {
            match self.next(events)? {
                None | Some((Event::StreamEnd, _)) => return Ok(None),
                Some((Event::DocumentStart(..), _)) => {
                    let (event, span) = self.expect(events)?;
                    let root = self.node(events, event, span)?;
                    // The document's end, without which the next one would not start.
                    self.expect(events)?;
                    return Ok(Some(root));
                }
                Some(_) => {}
            }
        }
    }

    fn next(
        &mut self,
        events: &mut Events<'text>,
    ) -> Result<Option<(Event<'text>, Span)>, Problem> {
        events
            .next()
            .transpose()
            .map_err(|error| self.syntax(&error))
    }

    fn expect(&mut self, events: &mut Events<'text>) -> Result<(Event<'text>, Span), Problem> {
        self.next(events)?.ok_or_else(|| Problem {
            line: self.text.lines().count().max(1),
            column: 1,
            message: "the file ends in the middle of a document".into(),
            remedy: "complete it".into(),
            ..Problem::default()
        })
    }

    fn node(
        &mut self,
        events: &mut Events<'text>,
        event: Event<'text>,
        span: Span,
    ) -> Result<Node, Problem> {
        let (line, column) = place(&span);
        self.count(1, line, column)?;
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(&text, style, tag.as_deref(), &span), anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list(events)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(events)?, anchor),
            Event::Alias(id) => {
                let known = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id);
                let node = known.map(|(_, node)| node.clone()).ok_or_else(|| Problem {
                    line,
                    column,
                    message: "the alias stands inside of what it names".into(),
                    remedy: "write the value out".into(),
                    ..Problem::default()
                })?;
                self.count(node.size(), line, column)?;
                // Mistakes are shown where the alias stands.
                return Ok(Node {
                    line,
                    column,
                    content: node.content,
                });
            }
            _ => (
                Content::Scalar {
                    value: Value::Null,
                    text_at: None,
                },
                0,
            ),
        };
        let node = Node {
            line,
            column,
            content,
        };
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, line: usize, column: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        Err(Problem {
            line,
            column,
            message: format!("the document has more than {MAX_NODES} values"),
            remedy: "use fewer aliases, or split it".into(),
            ..Problem::default()
        })
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Content {
        let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        let value = match style {
            ScalarStyle::Plain if !is_text => scalar::plain(text),
            _ => Value::String(text.to_owned()),
        };
        let quote = usize::from(style != ScalarStyle::Plain);
        let inner = span.slice(self.text).and_then(|source| source.get(quote..));
        let text_at = inner
            .is_some_and(|inner| inner.starts_with(text))
            .then_some(quote);
        Content::Scalar { value, text_at }
    }

    fn list(&mut self, events: &mut Events<'text>) -> Result<Content, Problem> {
        let mut items = Vec::new();
        loop {
            match self.expect(events)? {
                (Event::SequenceEnd, _) => return Ok(Content::List(items)),
                (event, span) => items.push(self.node(events, event, span)?),
            }
        }
    }

    fn map(&mut self, events: &mut Events<'text>) -> Result<Content, Problem> {
        let mut fields: Vec<(Key, Node)> = Vec::new();
        let mut merged: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.expect(events)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let is_merge =
                matches!(&event, Event::Scalar(name, ScalarStyle::Plain, ..) if name == "<<");
            let name = self.node(events, event, span)?;
            let (event, span) = self.expect(events)?;
            let value = self.node(events, event, span)?;
            if is_merge {
                merged.extend(merge(&value));
                continue;
            }
            let key = Key {
                line: name.line,
                column: name.column,
                name: key_text(&name.value()),
            };
            match fields.iter().find(|(known, _)| known.name == key.name) {
                Some((first, _)) => self.problems.push(duplicate(first, &key)),
                None => fields.push((key, value)),
            }
        }
        for (key, value) in merged {
            if !fields.iter().any(|(known, _)| known.name == key.name) {
                fields.push((key, value));
            }
        }
        Ok(Content::Map(fields))
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let line = error.marker().line().max(1);
        let column = error.marker().col() + 1;
        let source = self.text.lines().nth(line - 1).unwrap_or_default();
        let blank: String = source.chars().take_while(|c| c.is_whitespace()).collect();
        if let Some(at) = blank.chars().position(|c| c == '\t') {
            return Problem {
                line,
                column: at + 1,
                message: "the indentation has a tab".into(),
                remedy: "use spaces only".into(),
                ..Problem::default()
            };
        }
        Problem {
            line,
            column,
            message: format!("not YAML: {}", error.info()),
            remedy: "correct the line, or the one before it".into(),
            ..Problem::default()
        }
    }
}

fn place(span: &Span) -> (usize, usize) {
    (span.start.line().max(1), span.start.col() + 1)
}

/// What `<<: *name` and `<<: [*a, *b]` bring; the first one wins.
fn merge(value: &Node) -> Vec<(Key, Node)> {
    match &value.content {
        Content::Map(fields) => fields.clone(),
        Content::List(items) => items.iter().flat_map(merge).collect(),
        Content::Scalar { .. } => Vec::new(),
    }
}

fn key_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn duplicate(first: &Key, again: &Key) -> Problem {
    Problem {
        line: again.line,
        column: again.column,
        message: format!("the key {} is already on line {}", again.name, first.line),
        remedy: "remove one of the two".into(),
        ..Problem::default()
    }
}
