//! `rustci get`: tables of runs, and of one run's jobs and steps.
//! Must not change anything.

use std::io::Write;

use crds::{ApprovalRequest, Decision, JobStatus, PipelineRun, StepState, StepStatus, condition};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::ListParams;
use serde::Serialize;

use super::connect::{Cluster, status};
use crate::args::{Format, ListArguments};
use crate::failure::Failure;
use crate::output::text::state_word;
use crate::output::{elapsed, lines, table};
use crate::verdict::Verdict;

/// Longest message in a cell.
const MESSAGE_CHARS: usize = 80;

/// Prints the runs of a namespace, or one run.
pub async fn get(arguments: &ListArguments, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    let now = Timestamp::now();
    let text = match &arguments.run {
        Some(name) => {
            let mut run = cluster.run(name).await?;
            run.metadata.managed_fields = None;
            match arguments.output {
                Format::Table => one(&run, now),
                format => serialize(&run, format)?,
            }
        }
        None => {
            let listed = cluster.runs().list(&ListParams::default()).await;
            let mut list = listed.map_err(|error| cluster.failure("run", "", &error))?;
            // Who wrote which field is noise here, as kubectl finds too.
            list.items
                .iter_mut()
                .for_each(|run| run.metadata.managed_fields = None);
            list.items
                .sort_by_key(|run| run.metadata.creation_timestamp.as_ref().map(|t| t.0));
            match arguments.output {
                Format::Table if list.items.is_empty() => {
                    format!("no runs in namespace {}\n", cluster.namespace)
                }
                Format::Table => all(&list.items, now),
                format => serialize(&list, format)?,
            }
        }
    };
    out.write_all(text.as_bytes())
        .map_err(|error| Failure::infrastructure(format!("cannot print: {error}")))?;
    Ok(Verdict::Succeeded)
}

/// Objects as the API server gives them.
fn serialize(value: &impl Serialize, format: Format) -> Result<String, Failure> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .ok(),
        Format::Table | Format::Yaml => serde_yaml::to_string(value).ok(),
    };
    text.ok_or_else(|| Failure::infrastructure("the cluster's answer cannot be written out"))
}

/// The table of runs.
fn all(runs: &[PipelineRun], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let status = status(run);
            let pipeline = status
                .pipeline
                .as_ref()
                .map(|pipeline| pipeline.name.clone());
            let reference = run
                .spec
                .pipeline_ref
                .as_ref()
                .map(|reference| reference.name.clone());
            let done = status
                .jobs
                .iter()
                .filter(|job| job.state.is_final())
                .count();
            vec![
                run.name_any(),
                pipeline.or(reference).unwrap_or_default(),
                result(run),
                format!("{done}/{}", status.jobs.len()),
                span(run.metadata.creation_timestamp.as_ref(), None, now),
                span(
                    status.start_time.as_ref(),
                    status.completion_time.as_ref(),
                    now,
                ),
            ]
        })
        .collect();
    table::render(
        &["NAME", "PIPELINE", "STATUS", "JOBS", "AGE", "TIME"],
        &rows,
    )
}

/// One run: its state in a line, then its jobs and their steps.
fn one(run: &PipelineRun, now: Timestamp) -> String {
    let status = status(run);
    let message = succeeded(run)
        .map(|(_, message)| message)
        .unwrap_or_default();
    let separator = if message.is_empty() { "" } else { ": " };
    let head = format!(
        "run {}: {}{separator}{message}\n\n",
        run.name_any(),
        result(run)
    );
    let rows: Vec<Vec<String>> = status
        .jobs
        .iter()
        .flat_map(|job| {
            let steps = job.steps.iter().map(|step| step_row(step, now));
            std::iter::once(job_row(job, now)).chain(steps)
        })
        .collect();
    let jobs = table::render(&["JOB", "STATE", "TIME", "MESSAGE"], &rows);
    let rows: Vec<Vec<String>> = (status.approvals.iter())
        .map(|request| approval_row(request, now))
        .collect();
    let approvals = match rows.is_empty() {
        true => String::new(),
        false => {
            let head = ["APPROVAL", "ANSWER", "BY", "AGO", "COMMENT"];
            format!("\n{}", table::render(&head, &rows))
        }
    };
    head + &jobs + &approvals
}

/// What a job asks people, and the answer.
fn approval_row(request: &ApprovalRequest, now: Timestamp) -> Vec<String> {
    let (word, said) = match request.decision {
        Some(Decision::Approve) => ("approved", &request.comment),
        Some(Decision::Reject) => ("rejected", &request.comment),
        None => ("none", &request.message),
    };
    let at = request.at.as_ref().unwrap_or(&request.since);
    vec![
        request.job.clone(),
        word.to_owned(),
        cell(request.by.as_deref().unwrap_or_default()),
        span(Some(at), None, now),
        cell(said.as_deref().unwrap_or_default()),
    ]
}

fn job_row(job: &JobStatus, now: Timestamp) -> Vec<String> {
    let message = match job.state {
        crds::JobState::Succeeded | crds::JobState::Running => None,
        _ => job.message.as_deref().or(job.reason.as_deref()),
    };
    vec![
        job.name.clone(),
        state_word(job.state).to_owned(),
        span(job.start_time.as_ref(), job.end_time.as_ref(), now),
        cell(message.unwrap_or_default()),
    ]
}

fn step_row(step: &StepStatus, now: Timestamp) -> Vec<String> {
    let word = match step.state {
        StepState::Pending => "waiting",
        StepState::Running => "running",
        StepState::Succeeded => "succeeded",
        StepState::Failed => "failed",
        StepState::Skipped => "skipped",
        StepState::Cancelled => "cancelled",
        StepState::TimedOut => "timed out",
    };
    let end = match (step.exit_code, step.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(code), None) if code != 0 => format!("exit code {code}"),
        _ => String::new(),
    };
    vec![
        format!("  {}", step.name),
        word.to_owned(),
        span(step.start_time.as_ref(), step.end_time.as_ref(), now),
        end,
    ]
}

/// A message that fits into a table.
fn cell(message: &str) -> String {
    let text = lines::safe(message.replace('\n', " ").as_bytes(), false);
    match text.char_indices().nth(MESSAGE_CHARS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

fn span(start: Option<&Time>, end: Option<&Time>, now: Timestamp) -> String {
    elapsed::between(start, end, now)
        .map(elapsed::text)
        .unwrap_or_default()
}

/// Reason and message of the condition `Succeeded`.
fn succeeded(run: &PipelineRun) -> Option<(String, String)> {
    let conditions = status(run).conditions;
    let found = conditions
        .into_iter()
        .find(|found| found.type_ == condition::SUCCEEDED)?;
    Some((found.reason, found.message))
}

/// A run's state in a word.
fn result(run: &PipelineRun) -> String {
    succeeded(run).map_or_else(|| "Pending".to_owned(), |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use crds::{JobState, PipelineRef, PipelineRunSpec, PipelineRunStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_000 + secs).unwrap()
    }

    fn sample() -> PipelineRun {
        let spec = PipelineRunSpec {
            pipeline_ref: Some(PipelineRef {
                name: "oak".to_owned(),
            }),
            ..PipelineRunSpec::default()
        };
        let mut run = PipelineRun::new("oak-1", spec);
        run.metadata.creation_timestamp = Some(Time(at(0)));
        let step = |name: &str, state, exit_code| StepStatus {
            name: name.to_owned(),
            state,
            exit_code,
            ..StepStatus::default()
        };
        run.status = Some(PipelineRunStatus {
            start_time: Some(Time(at(1))),
            conditions: vec![Condition {
                type_: condition::SUCCEEDED.to_owned(),
                reason: "Running".to_owned(),
                message: "1 of 2 jobs done".to_owned(),
                status: "Unknown".to_owned(),
                last_transition_time: Time(at(1)),
                observed_generation: None,
            }],
            jobs: vec![
                JobStatus {
                    name: "fell".to_owned(),
                    state: JobState::Failed,
                    message: Some("step `saw`\nfailed \x1b[31m".to_owned()),
                    start_time: Some(Time(at(2))),
                    end_time: Some(Time(at(5))),
                    steps: vec![
                        step("oil", StepState::Succeeded, Some(0)),
                        step("saw", StepState::Failed, Some(3)),
                    ],
                    ..JobStatus::default()
                },
                JobStatus {
                    name: "stack".to_owned(),
                    ..JobStatus::default()
                },
            ],
            ..PipelineRunStatus::default()
        });
        run
    }

    #[test]
    fn the_table_of_runs_shows_state_jobs_age_and_time() {
        insta::assert_snapshot!(all(&[sample()], at(90)), @r"
        NAME    PIPELINE   STATUS    JOBS   AGE     TIME
        oak-1   oak        Running   1/2    1m30s   1m29s
        ");
    }

    #[test]
    fn one_run_shows_its_jobs_and_steps() {
        insta::assert_snapshot!(one(&sample(), at(90)), @r"
        run oak-1: Running: 1 of 2 jobs done

        JOB     STATE       TIME   MESSAGE
        fell    failed      3.0s   step `saw` failed
          oil   succeeded
          saw   failed             exit code 3
        stack   waiting
        ");
    }

    #[test]
    fn questions_to_people_and_their_answers_are_shown() {
        let mut run = sample();
        let request = |job: &str, decision, by: &str| ApprovalRequest {
            message: Some("Fell them?".to_owned()),
            decision,
            by: Some(by.to_owned()).filter(|by| !by.is_empty()),
            at: decision.map(|_| Time(at(30))),
            comment: decision.map(|_| "it is spring".to_owned()),
            ..ApprovalRequest::new(job, Time(at(10)), Time(at(100)))
        };
        let status = run.status.as_mut().unwrap();
        status.jobs.clear();
        status.approvals = vec![
            request("fell", Some(Decision::Reject), "ann"),
            request("stack", None, ""),
        ];
        insta::assert_snapshot!(one(&run, at(90)), @r"
        run oak-1: Running: 1 of 2 jobs done

        JOB   STATE   TIME   MESSAGE

        APPROVAL   ANSWER     BY    AGO     COMMENT
        fell       rejected   ann   1m00s   it is spring
        stack      none             1m20s   Fell them?
        ");
    }

    #[test]
    fn a_run_that_nobody_has_taken_up_is_pending() {
        let mut run = sample();
        run.status = None;
        assert_eq!(result(&run), "Pending");
    }
}
