//! Writes a plan as a graph for Mermaid and for Graphviz.
//! Must not lay anything out: these programs do.

use super::planned::{Planned, PlannedJob, PlannedMatrix};

/// A flowchart, as code hosts show it in Markdown. <https://mermaid.js.org/syntax/flowchart.html>
pub(super) fn mermaid(planned: &Planned) -> String {
    let mut lines = vec!["flowchart LR".to_owned()];
    let node = |(index, job): (usize, &PlannedJob)| {
        format!("  j{index}[\"{}\"]", label(job).replace('"', "#quot;"))
    };
    let (finally, jobs): (Vec<_>, Vec<_>) = planned
        .jobs
        .iter()
        .enumerate()
        .partition(|(_, job)| job.finally);
    if finally.is_empty() {
        lines.extend(jobs.into_iter().map(node));
    } else {
        for (name, group) in [("jobs", jobs), ("finally", finally)] {
            lines.push(format!("  subgraph {name}"));
            lines.extend(group.into_iter().map(|job| format!("  {}", node(job))));
            lines.push("  end".to_owned());
        }
        lines.push("  jobs -.-> finally".to_owned());
    }
    let edge = |(from, to)| format!("  j{from} --> j{to}");
    lines.extend(edges(planned).into_iter().map(edge));
    lines.join("\n") + "\n"
}

/// A directed graph. <https://graphviz.org/doc/info/lang.html>
pub(super) fn dot(planned: &Planned) -> String {
    let mut lines = vec![
        format!("digraph {} {{", quoted(&planned.pipeline)),
        "  rankdir=LR;".to_owned(),
        "  node [shape=box];".to_owned(),
    ];
    let node = |job: &PlannedJob| match label(job) {
        label if label == job.name => format!("  {};", quoted(&job.name)),
        label => format!("  {} [label={}];", quoted(&job.name), quoted(&label)),
    };
    let (finally, jobs): (Vec<_>, Vec<_>) = planned.jobs.iter().partition(|job| job.finally);
    lines.extend(jobs.into_iter().map(node));
    if !finally.is_empty() {
        lines.push("  subgraph cluster_finally {".to_owned());
        lines.push("    label=finally;".to_owned());
        lines.extend(finally.into_iter().map(|job| format!("  {}", node(job))));
        lines.push("  }".to_owned());
    }
    let name = |index: usize| quoted(&planned.jobs[index].name);
    let edge = |(from, to)| format!("  {} -> {};", name(from), name(to));
    lines.extend(edges(planned).into_iter().map(edge));
    lines.push("}".to_owned());
    lines.join("\n") + "\n"
}

/// The name, how many jobs it stands for, and whether they wait for people.
fn label(job: &PlannedJob) -> String {
    let matrix = match &job.matrix {
        None => None,
        Some(PlannedMatrix::Jobs(jobs)) => Some(format!("{} jobs", jobs.len())),
        Some(PlannedMatrix::Later(_)) => Some("matrix".to_owned()),
    };
    let asks = job.approval.as_ref().map(|_| "approval".to_owned());
    let notes: Vec<_> = matrix.into_iter().chain(asks).collect();
    match notes.is_empty() {
        true => job.name.clone(),
        false => format!("{} ({})", job.name, notes.join(", ")),
    }
}

/// From each need to the job that has it, by index.
fn edges(planned: &Planned) -> Vec<(usize, usize)> {
    let jobs = planned.jobs.iter();
    let index = |name: &str| jobs.clone().position(|job| job.name == name);
    let of_job = |(to, job): (usize, &PlannedJob)| {
        let needs = job.needs.iter().filter_map(|need| index(need));
        needs.map(|from| (from, to)).collect::<Vec<_>>()
    };
    planned.jobs.iter().enumerate().flat_map(of_job).collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
