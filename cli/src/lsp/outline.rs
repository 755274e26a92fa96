//! The names that a document declares, and where: params, jobs, steps, outputs.
//! Must not say whether they are right: `lint` does.

use super::cursor::Cursor;
use super::reuse::Use;
use crate::lint::tree::{self, Content, Node};

/// What one document declares.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The document itself.
    pub(super) named: Named,
    pub(super) params: Vec<Named>,
    pub(super) jobs: Vec<JobOutline>,
    pub(super) finally: Vec<JobOutline>,
    /// Step templates: they declare steps and outputs like jobs.
    pub(super) templates: Vec<JobOutline>,
}

/// A job or step template, and what it declares.
#[derive(Debug, Default)]
pub(super) struct JobOutline {
    pub(super) named: Named,
    pub(super) needs: Vec<String>,
    pub(super) steps: Vec<Named>,
    pub(super) outputs: Vec<Named>,
    /// Axes of its matrix.
    pub(super) axes: Vec<Named>,
    /// Inputs of a template; none for a job.
    pub(super) inputs: Option<Vec<Named>>,
    /// What it uses.
    pub(super) uses: Option<Use>,
    /// What each of its steps uses.
    pub(super) step_uses: Vec<Option<Use>>,
}

/// A name, where it stands (line and characters from 0), and a few words on what it names.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) start: usize,
    pub(super) about: String,
}

impl Named {
    /// A name that stands in no document.
    pub(super) fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

impl Outline {
    /// The outline of the document that a line belongs to. While that document is no YAML, it is
    /// read without the line: the one that is being written.
    pub(super) fn of(text: &str, line: usize) -> Self {
        let document = document(text, line).or_else(|| document(&without(text, line), line));
        document.map_or_else(Self::default, |document| Self::read(&document))
    }

    /// The outline of the Pipeline of this name in a text.
    pub(super) fn named(text: &str, name: &str) -> Option<Self> {
        let documents = tree::parse(text).into_iter().flatten();
        let is_pipeline = |document: &Node| {
            let kind = document.field("kind").map(|(_, kind)| kind.value());
            kind.is_some_and(|kind| kind == "Pipeline")
        };
        let outlines = documents
            .filter(is_pipeline)
            .map(|document| Self::read(&document));
        outlines
            .into_iter()
            .find(|outline| outline.named.name == name)
    }

    fn read(document: &Node) -> Self {
        let metadata = document.field("metadata");
        let own = metadata.map_or_else(Named::default, |(_, metadata)| name(metadata, &[]));
        let Some((_, mut spec)) = document.field("spec") else {
            return Self::default();
        };
        if let Some((_, inner)) = spec.field("pipelineSpec") {
            spec = inner;
        }
        let jobs = |field: &str| entries(spec, field).map(job).collect();
        Self {
            params: named(spec, "params", &["type", "default", "description"]),
            jobs: jobs("jobs"),
            finally: jobs("finally"),
            templates: entries(spec, "stepTemplates").map(template).collect(),
            named: own,
        }
    }

    /// A step template by its name.
    pub(super) fn template(&self, name: &str) -> Option<&JobOutline> {
        let mut templates = self.templates.iter();
        templates.find(|template| template.named.name == name)
    }

    /// The job or template that a place belongs to.
    pub(super) fn job_at(&self, found: &Cursor) -> Option<&JobOutline> {
        let index = |key| found.index_after(key);
        let of_jobs = index("jobs").and_then(|index| self.jobs.get(index));
        let of_finally = || self.finally.get(index("finally")?);
        let of_templates = || self.templates.get(index("stepTemplates")?);
        of_jobs.or_else(of_finally).or_else(of_templates)
    }

    /// A job of any kind by its name.
    pub(super) fn job(&self, name: &str) -> Option<&JobOutline> {
        let jobs = self.jobs.iter().chain(&self.finally);
        jobs.into_iter().find(|job| job.named.name == name)
    }
}

fn document(text: &str, line: usize) -> Option<Node> {
    let starts_before = |node: &Node| node.line <= line + 1;
    let place = |document: &Result<Node, _>| match document {
        Ok(node) => starts_before(node),
        Err(_) => true,
    };
    // A broken document stands in the list as its problem.
    tree::parse(text).into_iter().rfind(place)?.ok()
}

fn without(text: &str, line: usize) -> String {
    let kept = text.split('\n').enumerate();
    let lines: Vec<&str> = kept
        .map(|(number, text)| if number == line { "" } else { text })
        .collect();
    lines.join("\n")
}

fn job(node: &Node) -> JobOutline {
    let needs = entries(node, "needs").filter_map(|need| need.value().as_str().map(str::to_owned));
    JobOutline {
        named: name(node, &["image", "runner", "timeout"]),
        needs: needs.collect(),
        steps: named(node, "steps", &["run"]),
        outputs: named(node, "outputs", &["value"]),
        axes: node.field("matrix").map_or_else(Vec::new, |(_, matrix)| {
            named(matrix, "axes", &["values", "from"])
        }),
        inputs: None,
        uses: uses(node),
        step_uses: entries(node, "steps").map(uses).collect(),
    }
}

fn template(node: &Node) -> JobOutline {
    JobOutline {
        named: name(node, &["description"]),
        inputs: Some(named(node, "inputs", &["type", "default", "description"])),
        ..job(node)
    }
}

fn uses(node: &Node) -> Option<Use> {
    let (_, uses) = node.field("uses")?;
    let text = |field: &str| {
        let (_, value) = uses.field(field)?;
        value.value().as_str().map(str::to_owned)
    };
    Some(Use {
        pipeline: text("pipeline"),
        job: text("job"),
        template: text("template"),
    })
}

fn named(node: &Node, field: &str, about: &[&str]) -> Vec<Named> {
    entries(node, field)
        .map(|entry| name(entry, about))
        .collect()
}

fn entries<'node>(node: &'node Node, field: &str) -> impl Iterator<Item = &'node Node> {
    let items = match node.field(field).map(|(_, list)| &list.content) {
        Some(Content::List(items)) => items.as_slice(),
        _ => &[],
    };
    items.iter()
}

fn name(entry: &Node, about: &[&str]) -> Named {
    let text = |node: &Node| match node.value() {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let words = about.iter().filter_map(|field| {
        let (_, value) = entry.field(field)?;
        let value = text(value);
        Some(format!(
            "{field}: `{}`",
            value.lines().next().unwrap_or_default()
        ))
    });
    let about = words.collect::<Vec<_>>().join(", ");
    let Some((_, value)) = entry.field("name") else {
        return Named {
            line: entry.line - 1,
            start: entry.column - 1,
            about,
            ..Named::default()
        };
    };
    let quote = match &value.content {
        Content::Scalar {
            origin: Some(origin),
            ..
        } => origin.quote(),
        _ => 0,
    };
    Named {
        name: text(value),
        line: value.line - 1,
        start: value.column - 1 + quote,
        about,
    }
}
