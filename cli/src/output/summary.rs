//! The summary at the end of a run: jobs with their times, what failed and why, the verdict.
//! Must not print.

use crds::{JobState, JobStatus, StepState};

use super::text::{Color, paint, state_word};
use super::{End, elapsed, lines, table};
use crate::verdict::Verdict;

/// The lines of the summary.
pub fn lines(end: &End<'_>, colors: bool) -> Vec<String> {
    let Some(status) = &end.run.status else {
        return Vec::new();
    };
    let mut lines = vec![String::new()];
    let rows: Vec<Vec<String>> = status.jobs.iter().map(row).collect();
    lines.extend(
        table::render(&["JOB", "STATE", "TIME"], &rows)
            .lines()
            .map(str::to_owned),
    );
    for job in status.jobs.iter().filter(|job| has_trouble(job)) {
        lines.push(String::new());
        lines.extend(trouble(job, end));
    }
    lines.push(String::new());
    let color = if end.verdict == Verdict::Succeeded {
        Color::Green
    } else {
        Color::Red
    };
    lines.push(paint(&last_line(end), color, colors));
    lines
}

/// A job's row of the table.
fn row(job: &JobStatus) -> Vec<String> {
    let time = job.end_time.as_ref().and_then(|end| {
        elapsed::between(job.start_time.as_ref(), Some(end), end.0).map(elapsed::text)
    });
    vec![
        job.name.clone(),
        state_word(job.state).to_owned(),
        time.unwrap_or_default(),
    ]
}

/// True for a job that the user must look at: it failed, or was stopped in its middle.
fn has_trouble(job: &JobStatus) -> bool {
    job.state == JobState::Failed || (job.state == JobState::Cancelled && job.start_time.is_some())
}

/// Why a job failed, with the last lines of the step that failed.
fn trouble(job: &JobStatus, end: &End<'_>) -> Vec<String> {
    let why = job
        .message
        .as_deref()
        .or(job.reason.as_deref())
        .unwrap_or("no reason is known");
    let why = lines::safe(why.as_bytes(), false);
    let mut text = vec![format!("{} {}: {why}", job.name, state_word(job.state))];
    let culprit = job.steps.iter().find(|step| {
        matches!(
            step.state,
            StepState::Failed | StepState::TimedOut | StepState::Cancelled
        )
    });
    let Some(step) = culprit else { return text };
    if let Some(tail) = end.tails.get(&(job.name.clone(), step.name.clone())) {
        text.push(format!("  last lines of step {}:", step.name));
        text.extend(
            tail.iter()
                .map(|line| format!("  | {line}").trim_end().to_owned()),
        );
    }
    text
}

/// The verdict in a sentence.
fn last_line(end: &End<'_>) -> String {
    let name = end.run.metadata.name.as_deref().unwrap_or("run");
    let status = end.run.status.as_ref();
    let time = status.and_then(|status| {
        let end = status.completion_time.as_ref()?;
        elapsed::between(status.start_time.as_ref(), Some(end), end.0).map(elapsed::text)
    });
    let time = time.map(|time| format!(" in {time}")).unwrap_or_default();
    format!("run {name} {}{time}{}", end.verdict.word(), reason(end))
}

/// The run's own message, where the jobs do not tell the reason.
fn reason(end: &End<'_>) -> String {
    let status = end.run.status.as_ref();
    if end.verdict == Verdict::Succeeded
        || status.is_some_and(|status| status.jobs.iter().any(has_trouble))
    {
        return String::new();
    }
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let succeeded = conditions
        .iter()
        .find(|found| found.type_ == crds::condition::SUCCEEDED);
    match succeeded {
        Some(condition) if !condition.message.is_empty() => format!(": {}", condition.message),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use crds::{PipelineRun, PipelineRunSpec, PipelineRunStatus, StepStatus};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::output::Tails;

    #[test]
    fn the_summary_names_what_failed_and_shows_its_last_lines() {
        let at = |secs| Some(Time(Timestamp::from_second(secs).unwrap()));
        let failed = JobStatus {
            name: "fell".to_owned(),
            state: JobState::Failed,
            message: Some("step `saw` exited with code 3".to_owned()),
            start_time: at(1),
            end_time: at(3),
            steps: vec![StepStatus {
                name: "saw".to_owned(),
                state: StepState::Failed,
                exit_code: Some(3),
                ..StepStatus::default()
            }],
            ..JobStatus::default()
        };
        let skipped = JobStatus {
            name: "stack".to_owned(),
            state: JobState::Skipped,
            ..JobStatus::default()
        };
        let mut run = PipelineRun::new("forest-1", PipelineRunSpec::default());
        run.status = Some(PipelineRunStatus {
            start_time: at(0),
            completion_time: at(4),
            jobs: vec![failed, skipped],
            ..PipelineRunStatus::default()
        });
        let key = ("fell".to_owned(), "saw".to_owned());
        let tails = Tails::from([(key, vec!["the chain".to_owned(), "is off".to_owned()])]);
        let end = End {
            run: &run,
            verdict: Verdict::Failed,
            tails: &tails,
        };
        insta::assert_snapshot!(lines(&end, false).join("\n"), @r"

        JOB     STATE     TIME
        fell    failed    2.0s
        stack   skipped

        fell failed: step `saw` exited with code 3
          last lines of step saw:
          | the chain
          | is off

        run forest-1 failed in 4.0s
        ");
    }
}
