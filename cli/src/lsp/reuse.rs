//! Names in `uses` and `with`: of pipelines, their jobs, templates, params and inputs.
//! Must not say whether they are right: `lint` does.

use std::collections::HashMap;
use std::path::PathBuf;

use crds::{Param, PipelineSpec};

use super::cursor::Cursor;
use super::outline::{JobOutline, Named, Outline};
use super::uri;
use crate::library::{Pipelines, Shelf};

/// A document and the files around it.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// The document's file.
    pub(super) file: Option<PathBuf>,
    /// What its pipelines can use.
    pub(super) others: Pipelines,
    shelf: Shelf,
}

/// What a job or step uses, as far as it is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Use {
    pub(super) pipeline: Option<String>,
    pub(super) job: Option<String>,
    pub(super) template: Option<String>,
}

/// What the name at the cursor names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Noun {
    Pipeline,
    Job,
    Template,
    Value,
}

impl Around {
    /// The files around an open document. What the editor has open counts, not what is on the disk.
    pub(super) fn of(address: &str, text: &str, documents: &HashMap<String, String>) -> Self {
        let file = uri::path(address);
        let open = documents.iter();
        let open = open.filter_map(|(uri, text)| Some((uri::path(uri)?, text.clone())));
        let shelf = Shelf::with_open(open.collect());
        let others = match &file {
            Some(file) => shelf.around(file, text),
            None => Pipelines::of_text(text),
        };
        Self {
            file,
            others,
            shelf,
        }
    }
}

/// The names that may stand at the cursor; none when it is in no name of `uses` or `with`.
pub(super) fn names(
    line: &str,
    found: &Cursor,
    outline: &Outline,
    around: &Around,
) -> Option<Vec<Named>> {
    let noun = noun(found)?;
    let used = used(line, found, outline);
    let spec = || {
        around
            .others
            .find(used.pipeline.as_ref()?)
            .map(|other| &other.spec)
    };
    let own = |list: &[JobOutline]| list.iter().map(|one| one.named.clone()).collect();
    Some(match noun {
        Noun::Pipeline => {
            let mut names: Vec<_> = (around.others.all().iter())
                .map(|other| other.name.as_str())
                .collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().map(Named::of).collect()
        }
        Noun::Job => spec().map_or_else(Vec::new, jobs),
        Noun::Template if used.pipeline.is_none() => own(&outline.templates),
        Noun::Template => spec().map_or_else(Vec::new, templates),
        Noun::Value if used.template.is_some() && used.pipeline.is_none() => {
            let inputs = own_template(outline, &used)?.inputs.as_ref();
            inputs.cloned().unwrap_or_default()
        }
        Noun::Value => spec().map_or_else(Vec::new, |spec| values(spec, &used)),
    })
}

/// Where the name at the cursor is declared: the file, none for the document itself, and the name.
pub(super) fn declaration(
    word: &str,
    line: &str,
    found: &Cursor,
    outline: &Outline,
    around: &Around,
) -> Option<(Option<PathBuf>, String, Named)> {
    let noun = noun(found)?;
    let used = used(line, found, outline);
    let name = match noun {
        Noun::Pipeline => Some(word),
        Noun::Job | Noun::Template | Noun::Value => used.pipeline.as_deref(),
    };
    let Some(name) = name else {
        let named = match noun {
            Noun::Value => find(own_template(outline, &used)?.inputs.as_deref()?, word),
            _ => Some(outline.template(word)?.named.clone()),
        };
        return Some((None, String::new(), named?));
    };
    let file = around.others.find(name)?.file.clone();
    let text = around.shelf.text(file.as_deref()?)?;
    let other = Outline::named(&text, name)?;
    let named = match noun {
        Noun::Pipeline => other.named.clone(),
        Noun::Job => other.job(word)?.named.clone(),
        Noun::Template => other.template(word)?.named.clone(),
        Noun::Value => match &used.template {
            Some(template) => find(other.template(template)?.inputs.as_deref()?, word)?,
            None => find(&other.params, word)?,
        },
    };
    let file = file.filter(|file| around.file.as_ref() != Some(file));
    Some((file, text, named))
}

/// What the name of a template at the cursor names, in Markdown, with its inputs.
pub(super) fn about(
    word: &str,
    line: &str,
    found: &Cursor,
    outline: &Outline,
    around: &Around,
) -> Option<String> {
    if noun(found)? != Noun::Template {
        return None;
    }
    let mut told = format!("step template **{word}**");
    let (named, inputs) = match used(line, found, outline).pipeline {
        None => {
            let template = outline.template(word)?;
            (template.named.clone(), template.inputs.clone()?)
        }
        Some(pipeline) => {
            told.push_str(&format!(" of **{pipeline}**"));
            let spec = &around.others.find(&pipeline)?.spec;
            let named = find(&templates(spec), word)?;
            let template = Some(word.to_owned());
            let used = Use {
                template,
                ..Use::default()
            };
            (named, values(spec, &used))
        }
    };
    if !named.about.is_empty() {
        told.push_str(&format!("\n\n{}", named.about));
    }
    let inputs = inputs.iter().map(|input| match input.about.as_str() {
        "" => format!("\n- `{}`", input.name),
        about => format!("\n- `{}`: {about}", input.name),
    });
    let inputs: String = inputs.collect();
    if !inputs.is_empty() {
        told.push_str(&format!("\n\nInputs:\n{inputs}"));
    }
    Some(told)
}

fn find(list: &[Named], name: &str) -> Option<Named> {
    list.iter().find(|named| named.name == name).cloned()
}

fn own_template<'o>(outline: &'o Outline, used: &Use) -> Option<&'o JobOutline> {
    outline.template(used.template.as_deref()?)
}

fn noun(found: &Cursor) -> Option<Noun> {
    [
        ("uses", "pipeline", Noun::Pipeline),
        ("uses", "job", Noun::Job),
        ("uses", "template", Noun::Template),
        ("with", "name", Noun::Value),
    ]
    .into_iter()
    .find_map(|(outer, inner, noun)| found.ends_with(&[outer, inner]).then_some(noun))
}

/// What is used at the cursor. The line counts as well, since it may be half written.
fn used(line: &str, found: &Cursor, outline: &Outline) -> Use {
    let job = outline.job_at(found);
    let step = found.index_after("steps");
    let written = match step {
        Some(step) => job.and_then(|job| job.step_uses.get(step)?.clone()),
        None => job.and_then(|job| job.uses.clone()),
    };
    let written = written.unwrap_or_default();
    let on_line = |field: &str| {
        let (_, after) = line.split_once(&format!("{field}:"))?;
        let word = after.trim_start().trim_start_matches(['"', '\'']);
        let end = word.find(|c: char| !(c.is_alphanumeric() || c == '-'));
        let word = &word[..end.unwrap_or(word.len())];
        (!word.is_empty()).then(|| word.to_owned())
    };
    Use {
        pipeline: written.pipeline.or_else(|| on_line("pipeline")),
        job: written.job.or_else(|| on_line("job")),
        template: written.template.or_else(|| on_line("template")),
    }
}

fn jobs(spec: &PipelineSpec) -> Vec<Named> {
    let jobs = spec.jobs.iter().chain(&spec.finally_jobs);
    jobs.map(|job| Named::of(&job.name)).collect()
}

fn templates(spec: &PipelineSpec) -> Vec<Named> {
    let templates = spec.step_templates.iter();
    let named = templates.map(|template| Named {
        about: template.description.clone().unwrap_or_default(),
        ..Named::of(&template.name)
    });
    named.collect()
}

fn values(spec: &PipelineSpec, used: &Use) -> Vec<Named> {
    let declared = match &used.template {
        None => Some(&spec.params),
        Some(name) => {
            let mut templates = spec.step_templates.iter();
            let found = templates.find(|template| template.name == *name);
            found.map(|template| &template.inputs)
        }
    };
    let declared = declared.into_iter().flatten();
    let named = declared.map(|param: &Param| Named {
        about: param.description.clone().unwrap_or_default(),
        ..Named::of(&param.name)
    });
    named.collect()
}
