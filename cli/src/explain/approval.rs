//! What is known of the answers to a job that waits for approval.
//! Must not judge an answer: its own status does.

use crds::{Approval, ApprovalRequest, JobStatus, condition};

use super::Facts;
use crate::output::lines;

/// Most answers that are told of one job.
const MAX_ANSWERS: usize = 3;

/// What a job asks people.
pub(super) fn request<'a>(facts: &'a Facts, job: &JobStatus) -> Option<&'a ApprovalRequest> {
    let requests = &facts.run.status.as_ref()?.approvals;
    requests.iter().find(|request| request.job == name(job))
}

/// The question, then the newest answers that do not count.
pub(super) fn evidence(facts: &Facts, job: &JobStatus) -> Vec<String> {
    let question = request(facts, job).and_then(|request| request.message.as_ref());
    let asked = question.map(|text| format!("it asks: {}", lines::safe(text.as_bytes(), false)));
    let is_of = |answer: &&Approval| answer.spec.job == name(job);
    let mut refused: Vec<_> = facts.approvals.iter().filter(is_of).collect();
    refused.sort_by_key(|answer| {
        let created = answer.metadata.creation_timestamp.as_ref();
        std::cmp::Reverse(created.map(|time| time.0))
    });
    let refused = refused.into_iter().filter_map(told).take(MAX_ANSWERS);
    asked.into_iter().chain(refused).collect()
}

fn told(answer: &Approval) -> Option<String> {
    let status = answer.status.as_ref()?;
    let found = status.conditions.iter();
    let found = found.clone().find(|it| it.type_ == condition::ACCEPTED)?;
    let user = &answer.spec.user;
    let (reason, message) = (&found.reason, &found.message);
    (found.status == "False")
        .then(|| format!("the answer of `{user}` does not count: {message} ({reason})"))
}

fn name(job: &JobStatus) -> &str {
    job.job.as_ref().unwrap_or(&job.name)
}
