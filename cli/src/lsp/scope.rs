//! The names that an expression knows at its place in a document, and what may follow them.
//! Must not check or evaluate: the planner does.

use super::cursor::Cursor;
use super::outline::{JobOutline, Named, Outline};

/// The lists whose entries have expressions of their own.
const OWNERS: [&str; 3] = ["jobs", "finally", "stepTemplates"];
/// Fields of a job that are evaluated once for its whole matrix, or before there is one.
const BEFORE_MATRIX: [&str; 3] = ["when", "approval", "matrix"];

/// What is known at a place.
pub(super) struct Scope<'outline> {
    outline: &'outline Outline,
    /// The job or template that the place is in, while it can be read.
    job: Option<&'outline JobOutline>,
    owner: Option<&'static str>,
    /// The field of the job or template that the place is in.
    field: String,
}

impl<'outline> Scope<'outline> {
    /// The names at a place of the document that the outline is of.
    pub(super) fn at(outline: &'outline Outline, found: &Cursor) -> Self {
        let mut keys = found.keys();
        let owner = keys.find_map(|key| OWNERS.into_iter().find(|owner| *owner == key));
        Self {
            outline,
            job: outline.job_at(found),
            owner,
            field: keys.next().unwrap_or_default().to_owned(),
        }
    }

    /// The names that may stand after the parts of a chain.
    pub(super) fn next(&self, parts: &[&str]) -> Vec<Named> {
        let plain = |names: &[&str]| names.iter().map(|name| Named::of(name)).collect::<Vec<_>>();
        match parts {
            [] => plain(&self.roots()),
            [root, ..] if !self.roots().contains(root) => Vec::new(),
            ["inputs"] => self.inputs(),
            ["params"] => self.outline.params.clone(),
            ["source"] => plain(&["branch", "tag", "commit", "pullRequest"]),
            ["matrix"] => self.job.map(|job| job.axes.clone()).unwrap_or_default(),
            ["pipeline"] => plain(&["name"]),
            ["run"] => plain(&["name", "namespace"]),
            ["jobs"] => self.jobs().map(|job| job.named.clone()).collect(),
            ["jobs", name, rest @ ..] => match (self.jobs().find(is(name)), rest) {
                (Some(job), []) if job.axes.is_empty() => plain(&["result", "outputs"]),
                (Some(_), []) => plain(&["result", "matrix"]),
                (Some(job), ["outputs"]) if job.axes.is_empty() => job.outputs.clone(),
                _ => Vec::new(),
            },
            ["steps"] => self.job.map(|job| job.steps.clone()).unwrap_or_default(),
            ["steps", _] => plain(&["outputs"]),
            _ => Vec::new(),
        }
    }

    /// What a whole chain names, if it is declared in the document.
    pub(super) fn declaration(&self, parts: &[&str]) -> Option<Named> {
        let (last, before) = parts.split_last()?;
        let jobs = &self.outline.jobs;
        // A job that is not needed is declared all the same.
        let known = match before {
            ["jobs"] => jobs.iter().map(|job| job.named.clone()).collect(),
            ["jobs", name, "outputs"] => jobs.iter().find(is(name))?.outputs.clone(),
            ["params"] | ["inputs"] | ["matrix"] | ["steps"] => self.next(before),
            _ => Vec::new(),
        };
        known.into_iter().find(|named| named.name == *last)
    }

    /// The names that expressions begin with here.
    fn roots(&self) -> Vec<&'static str> {
        let mut roots = match self.owner {
            None => vec!["params"],
            Some("stepTemplates") => vec!["inputs"],
            Some(_) => vec!["params", "jobs"],
        };
        if self.owner.is_some() && self.field == "outputs" {
            roots.push("steps");
        }
        let has_matrix = self.job.is_some_and(|job| !job.axes.is_empty());
        if has_matrix && !BEFORE_MATRIX.contains(&self.field.as_str()) {
            roots.push("matrix");
        }
        roots.extend(["source", "pipeline", "run"]);
        roots
    }

    fn inputs(&self) -> Vec<Named> {
        self.job
            .and_then(|job| job.inputs.clone())
            .unwrap_or_default()
    }

    /// The jobs that have ended here: those that the job needs, and what these need. A `finally`
    /// job comes after all.
    fn jobs(&self) -> impl Iterator<Item = &'outline JobOutline> {
        let jobs = &self.outline.jobs;
        let needed = match self.owner {
            Some("jobs") => self.job.map(|job| reached(jobs, job)),
            _ => None,
        };
        jobs.iter().filter(move |job| {
            let name = &job.named.name;
            needed.as_ref().is_none_or(|needed| needed.contains(name))
        })
    }
}

/// True for the job of a name.
fn is<'a>(name: &'a str) -> impl Fn(&&JobOutline) -> bool + 'a {
    move |job| job.named.name == name
}

fn reached(jobs: &[JobOutline], job: &JobOutline) -> Vec<String> {
    let mut reached = job.needs.clone();
    let mut at = 0;
    while let Some(name) = reached.get(at) {
        let needs = jobs.iter().find(is(name)).map_or(&[][..], |job| &job.needs);
        let new: Vec<_> = (needs.iter())
            .filter(|need| !reached.contains(need))
            .cloned()
            .collect();
        reached.extend(new);
        at += 1;
    }
    reached
}

#[cfg(test)]
mod tests;
