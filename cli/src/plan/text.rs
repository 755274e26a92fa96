//! Writes a plan for people.
//! Must not leave out a job.

use crds::ParamValue;

use super::planned::{Planned, PlannedJob};
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
    for param in &planned.params {
        text.push_str(&format!("  {} = {}\n", param.name, value(&param.value)));
    }
    let mut rows = jobs;
    rows.sort_by_key(|job| job.wave);
    rows.extend(finally);
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    let header = ["WAVE", "JOB", "NEEDS", "IMAGE", "TIMEOUT", "STEPS"];
    text + "\n" + &table::render(&header, &rows)
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
        job.name.clone(),
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
