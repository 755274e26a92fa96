//! Answers to jobs that wait for approval: which of them can count, and why others do not.
//! Must not know the rights of users: the caller asks the API server.

use crds::{Approval, ApprovalRequest, PipelineRun};

/// One word for what became of an answer: the reasons of the condition `Accepted`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ApprovalReason {
    /// It counts.
    Accepted,
    /// The run is not there, or another one has its name now.
    RunNotFound,
    /// The run has ended.
    RunEnded,
    /// The run's pipeline has no such job.
    JobNotFound,
    /// The job asks for no approval.
    NoApprovalNeeded,
    /// The job does not wait for approval: not yet, or not any more.
    NotWaiting,
    /// Another answer came first.
    AlreadyDecided,
    /// The job names others.
    NotAnApprover,
    /// The user may not update `pipelineruns/approval`.
    Forbidden,
    /// Nothing in the cluster proves that the named user made it.
    NotProven,
}

impl ApprovalReason {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::RunNotFound => "RunNotFound",
            Self::RunEnded => "RunEnded",
            Self::JobNotFound => "JobNotFound",
            Self::NoApprovalNeeded => "NoApprovalNeeded",
            Self::NotWaiting => "NotWaiting",
            Self::AlreadyDecided => "AlreadyDecided",
            Self::NotAnApprover => "NotAnApprover",
            Self::Forbidden => "Forbidden",
            Self::NotProven => "NotProven",
        }
    }
}

/// How an answer stands, as far as run and job say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It counts already: the run's status has it.
    Counts,
    /// It can count, if its author is proven and has the right.
    MayCount,
    /// It does not count.
    Refused(ApprovalReason, String),
}

/// How an answer stands to its run, which is none when there is no run of this name.
pub fn standing(approval: &Approval, run: Option<&PipelineRun>) -> Standing {
    match reason(approval, run) {
        Ok(standing) => standing,
        Err((reason, message)) => Standing::Refused(reason, message),
    }
}

fn reason(
    approval: &Approval,
    run: Option<&PipelineRun>,
) -> Result<Standing, (ApprovalReason, String)> {
    let spec = &approval.spec;
    let is_meant = |run: &&PipelineRun| run.metadata.uid.as_deref() == Some(&spec.run_uid);
    let Some(run) = run.filter(is_meant) else {
        let message = format!("there is no run `{}` with this uid", spec.run);
        return Err((ApprovalReason::RunNotFound, message));
    };
    let status = run.status.as_ref();
    let requests = status.map_or(&[][..], |status| &status.approvals);
    let request = requests.iter().find(|request| request.job == spec.job);
    if let Some(decided) = request.filter(|request| request.decision.is_some()) {
        return match decided.approval == approval.metadata.name {
            true => Ok(Standing::Counts),
            false => Err((ApprovalReason::AlreadyDecided, already(decided))),
        };
    }
    if status.is_some_and(|status| status.completion_time.is_some()) {
        let message = format!("the run `{}` has ended", spec.run);
        return Err((ApprovalReason::RunEnded, message));
    }
    let Some(request) = request.filter(|_| is_pending(run, &spec.job)) else {
        return Err(not_waiting(run, &spec.job));
    };
    if !names(request, &spec.user, &spec.groups) {
        let message = format!(
            "the job `{}` wants the approval of {}; `{}` is not among them",
            spec.job,
            approvers(request),
            spec.user
        );
        return Err((ApprovalReason::NotAnApprover, message));
    }
    Ok(Standing::MayCount)
}

fn already(request: &ApprovalRequest) -> String {
    let by = request.by.as_deref().unwrap_or_default();
    let decision = request.decision.unwrap_or_default();
    format!("`{by}` has answered before: {decision:?}")
}

fn not_waiting(run: &PipelineRun, job: &str) -> (ApprovalReason, String) {
    let snapshot = run.status.iter().flat_map(|status| &status.pipeline);
    let mut jobs = snapshot.flat_map(|pipeline| &pipeline.spec.jobs);
    let Some(found) = jobs.find(|known| known.name == job) else {
        let message = format!("the run has no job `{job}`");
        return (ApprovalReason::JobNotFound, message);
    };
    // A job that is used from elsewhere may bring it along.
    if found.approval.is_none() && found.uses.is_none() {
        let message = format!("the job `{job}` asks for no approval");
        return (ApprovalReason::NoApprovalNeeded, message);
    }
    let message = format!("the job `{job}` does not wait for approval");
    (ApprovalReason::NotWaiting, message)
}

fn is_pending(run: &PipelineRun, job: &str) -> bool {
    let mut entries = run.status.iter().flat_map(|status| &status.jobs);
    entries.any(|entry| entry.job.as_ref().unwrap_or(&entry.name) == job && !entry.state.is_final())
}

fn names(rule: &ApprovalRequest, user: &str, groups: &[String]) -> bool {
    let is_open = rule.users.is_empty() && rule.groups.is_empty();
    is_open
        || rule.users.iter().any(|known| known == user)
        || groups.iter().any(|group| rule.groups.contains(group))
}

/// Who may answer, in words.
pub fn approvers(rule: &ApprovalRequest) -> String {
    let list = |what: &str, names: &[String]| match names {
        [] => None,
        [one] => Some(format!("the {what} `{one}`")),
        many => Some(format!("the {what}s `{}`", many.join("`, `"))),
    };
    let listed = [list("user", &rule.users), list("group", &rule.groups)];
    let listed: Vec<_> = listed.into_iter().flatten().collect();
    match listed.is_empty() {
        true => "anybody with the right to approve".to_owned(),
        false => listed.join(" or "),
    }
}

#[cfg(test)]
mod tests;
