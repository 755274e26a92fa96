//! Writes an explanation for people.
//! Must not leave out a cause.

use super::{Explanation, JobExplanation, StepExplanation};
use crate::output::{elapsed, lines, text::state_word};

/// The run in a line, then each cause with its evidence and what to do.
pub fn text(explanation: &Explanation) -> String {
    let Explanation {
        run,
        pipeline,
        state,
        class,
        message,
        concurrency,
        remedy,
        jobs,
        skipped,
        stopped,
        waiting,
    } = explanation;
    let of = match pipeline.is_empty() {
        true => String::new(),
        false => format!(" of pipeline {pipeline}"),
    };
    let class = match class.is_empty() {
        true => String::new(),
        false => format!(" ({class})"),
    };
    let mut text = format!("run {run}{of}: {state}{class}\n");
    indented(&mut text, message);
    if let Some(queue) = concurrency {
        let position = queue.position.map(|at| format!(" at position {at}"));
        let holder = queue
            .holder
            .as_ref()
            .map(|run| format!(", held by run {run}"));
        let (position, holder) = (position.unwrap_or_default(), holder.unwrap_or_default());
        let said = format!("waits in the group {}{position}{holder}", queue.group);
        indented(&mut text, &said);
    }
    advice(&mut text, remedy);
    jobs.iter().for_each(|explained| job(&mut text, explained));
    for (why, names) in [
        (
            "not run, by `when` or since a need did not succeed",
            skipped,
        ),
        (
            "stopped, by cancel or since another job of the matrix failed",
            stopped,
        ),
        ("wait for other jobs", waiting),
    ] {
        if !names.is_empty() {
            text.push_str(&format!("\n{why}: {}\n", names.join(", ")));
        }
    }
    let others = [skipped, stopped, waiting];
    if jobs.is_empty() && remedy.is_empty() && others.iter().all(|names| names.is_empty()) {
        text.push_str("\nnothing is wrong, and no job waits\n");
    }
    text
}

fn job(text: &mut String, job: &JobExplanation) {
    let class = match job.class.is_empty() {
        true => String::new(),
        false => format!(" ({})", job.class),
    };
    let time = job.for_millis.map(elapsed::text);
    let time = time.map(|time| match job.state.is_final() {
        true => format!(" after {time}"),
        false => format!(" for {time}"),
    });
    let state = state_word(job.state);
    let reason = match job.reason.is_empty() {
        true => String::new(),
        false => format!(": {}", job.reason),
    };
    text.push_str(&format!(
        "\njob {} {state}{}{reason}{class}\n",
        job.job,
        time.unwrap_or_default()
    ));
    indented(text, &job.message);
    job.evidence.iter().for_each(|said| indented(text, said));
    if let Some(found) = &job.step {
        step(text, found);
    }
    advice(text, &job.remedy);
}

fn step(text: &mut String, step: &StepExplanation) {
    text.push_str(&format!("  step {} {}\n", step.name, step.end));
    if !step.log_trouble.is_empty() {
        text.push_str(&format!("  its log cannot be read: {}\n", step.log_trouble));
    }
    for line in &step.log {
        text.push_str(&format!("    | {line}\n"));
    }
}

/// Text of others is made safe for a terminal.
fn indented(text: &mut String, said: &str) {
    for line in said.lines() {
        text.push_str(&format!("  {}\n", lines::safe(line.as_bytes(), false)));
    }
}

fn advice(text: &mut String, remedy: &str) {
    if !remedy.is_empty() {
        text.push_str(&format!("  what to do: {remedy}\n"));
    }
}
