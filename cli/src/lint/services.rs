//! Refuses to run here what needs a container engine: the services of jobs.
//! Must not judge anything else: such a file is right, for a cluster.

use std::path::Path;

use planner::validate::ValidPipeline;

use super::document::{at, find};
use super::{Finding, Problem, Report, finding, read, text, tree};
use crate::failure::Failure;

/// Refuses a pipeline of this file whose jobs have services, their own or those of the jobs that
/// they use, with the places where they stand.
pub fn refuse_services(file: &Path, pipeline: &ValidPipeline) -> Result<(), Failure> {
    let spec = pipeline.spec();
    let places = |list, count| (0..count).map(move |i| format!("{list}[{i}]"));
    let places = places("jobs", spec.jobs.len()).chain(places("finally", spec.finally_jobs.len()));
    let fields: Vec<_> = places
        .zip(pipeline.jobs())
        .filter(|(_, job)| !job.services.is_empty())
        .map(|(place, job)| (place, job.name.as_str()))
        .collect();
    if fields.is_empty() {
        return Ok(());
    }
    let content = read(file).unwrap_or_default();
    let findings = fields.iter().filter_map(|(job, name)| {
        let problem = problem(&content, job, name)?;
        let lines: Vec<&str> = content.lines().collect();
        Some(finding(&file.display().to_string(), &lines, problem))
    });
    let findings: Vec<Finding> = findings.collect();
    let report = Report {
        findings,
        checked: 1,
        notes: Vec::new(),
    };
    let shown = text(&report, false);
    Err(Failure::usage(format!(
        "{} can't run here: services need a container engine, and local runs have none\n{}",
        file.display(),
        shown.trim_end()
    )))
}

/// The first job at this place of a document that has this name, and services or a job that it uses.
fn problem(content: &str, job: &str, name: &str) -> Option<Problem> {
    let documents = tree::parse(content).into_iter().flatten();
    let mut fields = documents.flat_map(|document| {
        ["spec", "spec.pipelineSpec"].map(|spec| (document.clone(), format!("{spec}.{job}")))
    });
    let is_it = |(document, path): &(tree::Node, String)| {
        let written = find(document, &format!("{path}.name"));
        let written = written.value.map(tree::Node::value);
        written.as_ref().and_then(|value| value.as_str()) == Some(name)
            && own_or_used(document, path).is_some()
    };
    let (document, path) = fields.find(is_it)?;
    let field = own_or_used(&document, &path)?;
    let message = format!("the job `{name}` has services");
    let remedy = "start it on a cluster, or run the services by hand and take them out".to_owned();
    Some(at(&document, &field, message, remedy))
}

/// The field that brings a job its services.
fn own_or_used(document: &tree::Node, job: &str) -> Option<String> {
    let fields = ["services", "uses"].map(|field| format!("{job}.{field}"));
    let mut fields = fields.into_iter();
    fields.find(|field| find(document, field).key.is_some())
}
