//! YAML documents as JSON values that know where each part stands in the text.
//! Must not know what the documents mean.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::Value;

use super::origin::Origin;
use super::{Problem, scalar};

/// Most nodes of one document, aliases expanded and anchors counted twice: no document that an API
/// server takes has as many.
const MAX_NODES: usize = 1_000_000;
/// Deepest nesting. A pipeline needs fewer than 20 levels, and each level takes a part of the stack.
const MAX_DEPTH: usize = 64;

/// A value and where it starts.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Line and column, from 1.
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Scalar {
        value: Value,
        /// The text, as far as it says something else than the value: `no` for false.
        written: Option<String>,
        /// How the text stands in the file; none where an alias stands for it.
        origin: Option<Origin>,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and where it starts.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) name: String,
    /// The name as it stands in the text, where YAML reads another one: `on` for `true`.
    pub(crate) written: Option<String>,
}

impl Node {
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    pub(crate) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar { value, .. } => value.clone(),
            Content::List(items) => items.iter().map(Node::value).collect(),
            Content::Map(fields) => fields
                .iter()
                .map(|(key, value)| (key.name.clone(), value.value()))
                .collect(),
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<(&Key, &Node)> {
        let Content::Map(fields) = &self.content else {
            return None;
        };
        fields
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(key, value)| (key, value))
    }

    /// The text of a scalar that YAML reads as something else.
    pub(crate) fn written(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { written, .. } => written.as_deref(),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    /// Line and column, from 1, of the character of a text at `offset`, from 0, in the file.
    pub(super) fn place(&self, file: &str, offset: usize) -> Option<(usize, usize)> {
        match &self.content {
            Content::Scalar {
                value: Value::String(text),
                origin: Some(origin),
                ..
            } => origin.place(file, text, offset),
            _ => None,
        }
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
pub(crate) fn parse(text: &str) -> Vec<Result<Node, Problem>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    // The parser reads ahead of the tree, so it may be the first to meet the limit.
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
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
    anchors: HashMap<usize, Node>,
    nodes: usize,
    depth: usize,
    /// Duplicate keys: the document can be read all the same.
    problems: Vec<Problem>,
}

type Events<'text> = Parser<'text, granit_parser::StrInput<'text>>;

impl<'text> Builder<'text> {
    fn new(text: &'text str) -> Self {
        Self {
            text,
            anchors: HashMap::new(),
            nodes: 0,
            depth: 0,
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
                    let root = self.value(events, event, span)?;
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

    /// What is no key.
    fn value(
        &mut self,
        events: &mut Events<'text>,
        event: Event<'text>,
        span: Span,
    ) -> Result<Node, Problem> {
        if let Event::Scalar(text, ScalarStyle::Plain, _, tag) = &event
            && scalar::is_endless(text)
            && !is_text(tag.as_deref())
        {
            self.problems.push(endless(text, &span));
        }
        self.node(events, event, span)
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
                (scalar(&text, style, tag.as_deref(), &span), anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                (self.nested((line, column), |it| it.list(events))?, anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                (self.nested((line, column), |it| it.map(events))?, anchor)
            }
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or_else(|| Problem {
                    line,
                    column,
                    message: "the alias stands inside of what it names".into(),
                    remedy: "write the value out".into(),
                    ..Problem::default()
                })?;
                self.count(node.size(), line, column)?;
                // Mistakes are shown where the alias stands.
                let mut content = node.content;
                if let Content::Scalar { origin, .. } = &mut content {
                    *origin = None;
                }
                return Ok(Node {
                    line,
                    column,
                    content,
                });
            }
            _ => (
                Content::Scalar {
                    value: Value::Null,
                    written: None,
                    origin: None,
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
            self.count(node.size(), line, column)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Reads what is inside of a list or map.
    fn nested(
        &mut self,
        (line, column): (usize, usize),
        read: impl FnOnce(&mut Self) -> Result<Content, Problem>,
    ) -> Result<Content, Problem> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep(line, column));
        }
        self.depth += 1;
        let content = read(self);
        self.depth -= 1;
        content
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

    fn list(&mut self, events: &mut Events<'text>) -> Result<Content, Problem> {
        let mut items = Vec::new();
        loop {
            match self.expect(events)? {
                (Event::SequenceEnd, _) => return Ok(Content::List(items)),
                (event, span) => items.push(self.value(events, event, span)?),
            }
        }
    }

    fn map(&mut self, events: &mut Events<'text>) -> Result<Content, Problem> {
        let mut fields: Vec<(Key, Node)> = Vec::new();
        let mut merged: Vec<(Key, Node)> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, span) = self.expect(events)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let is_merge =
                matches!(&event, Event::Scalar(name, ScalarStyle::Plain, ..) if name == "<<");
            let name = self.node(events, event, span)?;
            let (event, span) = self.expect(events)?;
            let is_alias = matches!(event, Event::Alias(_));
            let value = self.value(events, event, span)?;
            if is_merge {
                match merge(&value, is_alias) {
                    Ok(fields) => merged.extend(fields),
                    Err(other) => self.problems.push(no_map(other)),
                }
                continue;
            }
            let key = Key {
                line: name.line,
                column: name.column,
                name: key_text(&name.value()),
                written: name.written().map(str::to_owned),
            };
            match lines.entry(key.name.clone()) {
                Entry::Occupied(first) => self.problems.push(duplicate(*first.get(), &key)),
                Entry::Vacant(free) => {
                    free.insert(key.line);
                    fields.push((key, value));
                }
            }
        }
        for (key, value) in merged {
            if let Entry::Vacant(free) = lines.entry(key.name.clone()) {
                free.insert(key.line);
                fields.push((key, value));
            }
        }
        Ok(Content::Map(fields))
    }

    /// The tab in the indentation of a line, or of the one after it: a text that the parser still
    /// reads on the first line ends there.
    fn tab(&self, line: usize) -> Option<(usize, usize)> {
        let lines = self.text.lines().enumerate().skip(line - 1).take(2);
        lines.into_iter().find_map(|(number, source)| {
            let mut blank = source.chars().take_while(|c| c.is_whitespace());
            let column = blank.position(|c| c == '\t')?;
            Some((number + 1, column + 1))
        })
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let line = error.marker().line().max(1);
        let column = error.marker().col() + 1;
        if *error.kind() == ErrorKind::RecursionLimitExceeded {
            return too_deep(line, column);
        }
        if let Some((line, column)) = self.tab(line) {
            return Problem {
                line,
                column,
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

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Content {
    let value = match style {
        ScalarStyle::Plain if !is_text(tag) => scalar::plain(text),
        _ => Value::String(text.to_owned()),
    };
    let read = value.to_string();
    let written = (!value.is_string() && read != text).then(|| text.to_owned());
    Content::Scalar {
        value,
        written,
        origin: Origin::new(style, span),
    }
}

fn too_deep(line: usize, column: usize) -> Problem {
    Problem {
        line,
        column,
        message: format!("the document is nested more than {MAX_DEPTH} levels deep"),
        remedy: "write it flatter".into(),
        ..Problem::default()
    }
}

fn place(span: &Span) -> (usize, usize) {
    (span.start.line().max(1), span.start.col() + 1)
}

/// What `<<: *name` and `<<: [*a, *b]` bring, the first one wins; or what is no map. An alias of a
/// list is none.
fn merge(value: &Node, is_alias: bool) -> Result<Vec<(Key, Node)>, &Node> {
    match &value.content {
        Content::Map(fields) => Ok(fields.clone()),
        Content::List(items) if !is_alias => {
            let mut merged = Vec::new();
            for item in items {
                match &item.content {
                    Content::Map(fields) => merged.extend(fields.iter().cloned()),
                    Content::List(_) | Content::Scalar { .. } => return Err(item),
                }
            }
            Ok(merged)
        }
        Content::List(_) | Content::Scalar { .. } => Err(value),
    }
}

fn no_map(value: &Node) -> Problem {
    Problem {
        line: value.line,
        column: value.column,
        message: "the key << merges maps, and this is none".into(),
        remedy: "write <<: *NAME, where &NAME stands before a map, or a list of such names".into(),
        ..Problem::default()
    }
}

fn is_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"))
}

fn endless(text: &str, span: &Span) -> Problem {
    let (line, column) = place(span);
    Problem {
        line,
        column,
        message: format!("kubectl refuses {text}: YAML reads a number that JSON can't write"),
        remedy: format!("write \"{text}\" in quotes, or another number"),
        ..Problem::default()
    }
}

fn key_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn duplicate(first_line: usize, again: &Key) -> Problem {
    Problem {
        line: again.line,
        column: again.column,
        message: format!("the key {} is already on line {first_line}", again.name),
        remedy: "remove one of the two".into(),
        ..Problem::default()
    }
}
