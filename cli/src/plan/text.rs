//! Writes a plan for people.
//! Must not leave out a job.

use crds::{Concurrency, ParamValue};

use super::planned::{Planned, PlannedApproval, PlannedJob, PlannedMatrix};
use crate::output::table;

/// A sentence on the whole, the parameters, and a table of the jobs by waves.
pub(super) fn text(planned: &Planned) -> String {
    let (finally, jobs): (Vec<_>, Vec<_>) = planned.jobs.iter().partition(|job| job.finally);
    let more = match finally.len() {
        0 => String::new(),
        many => format!(", {} in the end", count(many, "finally job")),
    };
    let mut text = format!(
        "pipeline {}: {} in {}{more}, at most {}\n",
        planned.pipeline,
        count(jobs.len(), "job"),
        count(planned.waves, "wave"),
        planned.timeout,
    );
    if let Some(Concurrency { group, policy, .. }) = &planned.concurrency {
        text.push_str(&format!("  concurrency group {group}, {policy:?}\n"));
    }
    for param in &planned.params {
        text.push_str(&format!("  {} = {}\n", param.name, value(&param.value)));
    }
    let mut rows = jobs;
    rows.sort_by_key(|job| job.wave);
    rows.extend(finally);
    let rows = rows.into_iter();
    let rows = rows.flat_map(|job| std::iter::once(row(job)).chain(matrix_rows(job)));
    let header = ["WAVE", "JOB", "NEEDS", "IMAGE", "TIMEOUT", "STEPS"];
    text + "\n" + &table::render(&header, &rows.collect::<Vec<_>>()) + &conditions(planned)
}

/// A row for each job of a matrix, or for each axis that is known only later.
fn matrix_rows(job: &PlannedJob) -> Vec<Vec<String>> {
    let row = |name: &str, image: &Option<String>| {
        let image = image.clone().unwrap_or_default();
        vec![String::new(), format!("  {name}"), String::new(), image]
    };
    match &job.matrix {
        None => Vec::new(),
        Some(PlannedMatrix::Jobs(jobs)) => {
            jobs.iter().map(|job| row(&job.name, &job.image)).collect()
        }
        Some(PlannedMatrix::Later(axes)) => {
            let sentence =
                |(axis, from): &(String, String)| row(&format!("{axis} from {from}"), &None);
            axes.iter().map(sentence).collect()
        }
    }
}

/// The conditions of jobs, below the table: they are too long for it.
fn conditions(planned: &Planned) -> String {
    let of_job = |job: &PlannedJob| {
        let name = &job.name;
        let when = job.when.as_ref();
        let when = when.map(|when| format!("{name} runs only when {when}\n"));
        let asks = job.approval.as_ref().map(|approval| asks(name, approval));
        when.into_iter().chain(asks).collect::<String>()
    };
    let lines: String = planned.jobs.iter().map(of_job).collect();
    match lines.is_empty() {
        true => lines,
        false => format!("\n{lines}"),
    }
}

/// Whom a job waits for, how long, and what it asks.
fn asks(name: &str, approval: &PlannedApproval) -> String {
    let groups = approval.groups.iter().map(|group| format!("group {group}"));
    let people: Vec<_> = approval.users.iter().cloned().chain(groups).collect();
    let who = match people.is_empty() {
        true => "anybody who may".to_owned(),
        false => people.join(" or "),
    };
    let question = approval.message.as_ref();
    let question = question.map_or_else(String::new, |text| format!(": {text:?}"));
    let timeout = &approval.timeout;
    format!("{name} waits up to {timeout} until {who} approves it{question}\n")
}

fn row(job: &PlannedJob) -> Vec<String> {
    let wave = match job.finally {
        true => "finally".to_owned(),
        false => job.wave.to_string(),
    };
    let image = match (&job.image, &job.runner) {
        (Some(image), _) => image.clone(),
        (None, Some(runner)) => format!("that of runner {runner}"),
        (None, None) => String::new(),
    };
    vec![
        wave,
        match &job.uses {
            None => job.name.clone(),
            Some(uses) => format!("{} = {uses}", job.name),
        },
        job.needs.join(", "),
        image,
        job.timeout.clone(),
        job.steps.join(", "),
    ]
}

fn value(value: &ParamValue) -> String {
    match value {
        ParamValue::Boolean(truth) => truth.to_string(),
        ParamValue::Integer(number) => number.to_string(),
        ParamValue::String(text) => format!("{text:?}"),
    }
}

fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}
