//! Whether a job that could start may: it asks people once, and waits for the first answer.
//! Must not judge who answers: only answers that were checked are among the facts.

use std::time::Duration;

use crds::{ApprovalRequest, Decision, FailureClass};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ending::Ending;
use super::observed::ApprovalFact;
use super::plan::EventType;
use super::reason::JobReason;
use super::turn::{Inputs, Turn};
use crate::approval::approvers;
use crate::expression::{Status, Uses};
use crate::validate::{ValidApproval, ValidPipeline, limit};

/// What a job may do.
pub(super) enum Gate {
    /// Start.
    Open,
    /// Wait, and say this.
    Waits(String),
    /// End like this.
    Closed(Ending),
}

/// Longest wait that is added to a run's time.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Asks people, if the job wants that, and looks for their answer. Nobody is asked twice: the
/// status keeps question and answer, so retries and restarts find them.
pub(super) fn gate(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize) -> Gate {
    let Some(approval) = &pipeline.jobs[job].approval else {
        return Gate::Open;
    };
    let place = match request_of(turn, pipeline, job) {
        Some(place) => place,
        None => match ask(turn, pipeline, job, approval) {
            Ok(place) => place,
            Err(ending) => return Gate::Closed(ending),
        },
    };
    if turn.status.approvals[place].decision.is_none() {
        answer(turn, place);
    }
    let request = &turn.status.approvals[place];
    match request.decision {
        Some(Decision::Approve) => return Gate::Open,
        Some(Decision::Reject) => return Gate::Closed(rejected(request)),
        None => {}
    }
    let (since, until) = (request.since.0, request.until.0);
    if is_over(turn, since, until) {
        return Gate::Closed(timed_out(approval));
    }
    let by = approvers(&turn.status.approvals[place]);
    Gate::Waits(format!("waits for the approval of {by} until {until}"))
}

/// The time that a run without a limit of its own gets on top for its approvals.
pub(super) fn waits(pipeline: &ValidPipeline) -> Duration {
    let jobs = pipeline.jobs.iter();
    let all = jobs.filter_map(|job| job.approval.as_ref());
    let sum = all.fold(Duration::ZERO, |sum, approval| {
        sum.saturating_add(approval.timeout)
    });
    sum.min(LONGEST)
}

/// True while a job waits for people, or while they have been asked in vain.
pub(super) fn is_awaited(turn: &Turn<'_>) -> bool {
    let awaited = JobReason::AwaitingApproval.as_str();
    let mut jobs = turn.status.jobs.iter();
    jobs.any(|job| !job.state.is_final() && job.reason.as_deref() == Some(awaited))
}

fn request_of(turn: &Turn<'_>, pipeline: &ValidPipeline, job: usize) -> Option<usize> {
    let name = &pipeline.jobs[job].spec.name;
    let mut requests = turn.status.approvals.iter();
    requests.position(|request| request.job == *name)
}

fn ask(
    turn: &mut Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
    approval: &ValidApproval,
) -> Result<usize, Ending> {
    let message = question(turn, pipeline, job, approval).map_err(|error| {
        let (reason, class) = (JobReason::ExpressionFailed, FailureClass::Configuration);
        Ending::failed(reason, class, format!("`approval.message`: {error}"))
    })?;
    let name = pipeline.jobs[job].spec.name.clone();
    let asked = message.as_ref().map(|text| format!(": {text}"));
    let text = format!(
        "job `{name}` waits for approval{}",
        asked.unwrap_or_default()
    );
    turn.event(EventType::Normal, "ApprovalRequested", text);
    let (since, until) = (turn.now, turn.now + approval.timeout);
    turn.status.approvals.push(ApprovalRequest {
        message,
        users: approval.users.clone(),
        groups: approval.groups.clone(),
        ..ApprovalRequest::new(&name, Time(since), Time(until))
    });
    Ok(turn.status.approvals.len() - 1)
}

fn question(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
    approval: &ValidApproval,
) -> Result<Option<String>, String> {
    let Some(template) = &approval.message else {
        return Ok(None);
    };
    let mut uses = Uses::default();
    template.uses().for_each(|other| uses.add(other));
    let evaluator = turn.evaluator(
        pipeline,
        Inputs {
            job,
            matrix: &[],
            uses: &uses,
            status: Status::default(),
            steps: Vec::new(),
        },
    );
    let mut text = template.evaluate(&evaluator)?;
    text.truncate(text.floor_char_boundary(limit::COMMENT));
    Ok(Some(text))
}

/// Puts the first answer that came in time into the status.
fn answer(turn: &mut Turn<'_>, place: usize) {
    let request = &turn.status.approvals[place];
    let is_it = |fact: &&ApprovalFact| fact.job == request.job && fact.at <= request.until.0;
    let facts = turn.observed.approvals.iter().filter(is_it);
    let Some(first) = facts.min_by_key(|fact| (fact.at, &fact.name)) else {
        return;
    };
    let ApprovalFact {
        job,
        decision,
        by,
        at,
        comment,
        name,
    } = first.clone();
    let said = comment.as_ref().map(|comment| format!(": {comment}"));
    let said = said.unwrap_or_default();
    let (event, verb) = match decision {
        Decision::Approve => ("Approved", "approved"),
        Decision::Reject => ("Rejected", "rejected"),
    };
    let text = format!("job `{job}` was {verb} by {by}{said}");
    let request = &mut turn.status.approvals[place];
    request.decision = Some(decision);
    request.by = Some(by);
    request.at = Some(Time(at));
    request.comment = comment;
    request.approval = Some(name);
    turn.event(EventType::Normal, event, text);
}

/// An answer that came in time while nobody watched still has to be checked, so after a restart
/// the end is a little later.
fn is_over(turn: &mut Turn<'_>, since: Timestamp, until: Timestamp) -> bool {
    let watching = turn.observed.observing_since;
    let end = match since < watching {
        true => until.max(watching + turn.settings().backstop_grace),
        false => until,
    };
    turn.is_over(end, Duration::ZERO)
}

fn rejected(request: &ApprovalRequest) -> Ending {
    let by = request.by.as_deref().unwrap_or_default();
    let said = request.comment.as_ref().map(|text| format!(": {text}"));
    let message = format!("rejected by {by}{}", said.unwrap_or_default());
    Ending::failed(JobReason::Rejected, FailureClass::User, message)
}

fn timed_out(approval: &ValidApproval) -> Ending {
    let limit = crate::duration::format(approval.timeout);
    let message = format!("nobody approved it within {limit}");
    Ending::failed(JobReason::ApprovalTimedOut, FailureClass::Timeout, message)
}
