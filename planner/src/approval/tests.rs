//! Answers and their runs, one by one.

use crds::{
    ApprovalSpec, Decision, Job, JobApproval, JobState, JobStatus, PipelineRunSpec,
    PipelineRunStatus, PipelineSpec, ResolvedPipeline,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

fn answer(change: impl FnOnce(&mut ApprovalSpec)) -> Approval {
    let mut spec = ApprovalSpec {
        run: "pears-4".to_owned(),
        run_uid: "uid-4".to_owned(),
        job: "ship".to_owned(),
        user: "ann".to_owned(),
        groups: vec!["growers".to_owned()],
        ..ApprovalSpec::default()
    };
    change(&mut spec);
    Approval::new("ship-1", spec)
}

/// A run whose job `ship` waits for `bert` or the growers, and whose job `pick` runs.
fn run() -> PipelineRun {
    let asks = || Some(JobApproval::default());
    let job = |name: &str, approval| Job {
        name: name.to_owned(),
        approval,
        ..Job::default()
    };
    let entry = |name: &str, state| JobStatus {
        name: name.to_owned(),
        state,
        ..JobStatus::default()
    };
    let mut run = PipelineRun::new("pears-4", PipelineRunSpec::default());
    run.metadata.uid = Some("uid-4".to_owned());
    run.status = Some(PipelineRunStatus {
        pipeline: Some(ResolvedPipeline {
            spec: PipelineSpec {
                jobs: vec![job("pick", None), job("ship", asks()), job("sell", asks())],
                ..PipelineSpec::default()
            },
            ..ResolvedPipeline::default()
        }),
        jobs: vec![
            entry("pick", JobState::Running),
            entry("ship", JobState::Pending),
            entry("sell", JobState::Pending),
        ],
        approvals: vec![ApprovalRequest {
            users: vec!["bert".to_owned()],
            groups: vec!["growers".to_owned()],
            ..request("ship")
        }],
        ..PipelineRunStatus::default()
    });
    run
}

fn request(job: &str) -> ApprovalRequest {
    let epoch = Time(Timestamp::UNIX_EPOCH);
    ApprovalRequest::new(job, epoch.clone(), epoch)
}

fn told(approval: &Approval, run: &PipelineRun) -> String {
    match standing(approval, Some(run)) {
        Standing::Refused(reason, message) => format!("{}: {message}", reason.as_str()),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_named_users_and_the_members_of_the_named_groups_may_answer() {
    assert_eq!(told(&answer(|_| {}), &run()), "MayCount");
    let alone = |user: &str| {
        let user = user.to_owned();
        answer(|spec| (spec.user, spec.groups) = (user, Vec::new()))
    };
    assert_eq!(told(&alone("bert"), &run()), "MayCount");
    assert_eq!(
        told(&alone("carl"), &run()),
        "NotAnApprover: the job `ship` wants the approval of the user `bert` or the group \
         `growers`; `carl` is not among them"
    );
}

#[test]
fn a_job_without_names_leaves_it_to_the_rights() {
    let mut run = run();
    run.status.as_mut().unwrap().approvals.push(request("sell"));
    let carl = answer(|spec| {
        (spec.user, spec.groups) = ("carl".to_owned(), Vec::new());
        spec.job = "sell".to_owned();
    });
    assert_eq!(told(&carl, &run), "MayCount");
}

#[test]
fn an_answer_is_refused_with_the_reason_when_nothing_waits_for_it() {
    let of_job = |job: &str| {
        let job = job.to_owned();
        answer(|spec| spec.job = job)
    };
    assert_eq!(
        told(&of_job("pick"), &run()),
        "NoApprovalNeeded: the job `pick` asks for no approval"
    );
    assert_eq!(
        told(&of_job("sell"), &run()),
        "NotWaiting: the job `sell` does not wait for approval"
    );
    assert_eq!(
        told(&of_job("sip"), &run()),
        "JobNotFound: the run has no job `sip`"
    );
    let other = answer(|spec| spec.run_uid = "uid-3".to_owned());
    let gone = "RunNotFound: there is no run `pears-4` with this uid";
    assert_eq!(told(&other, &run()), gone);
    assert!(matches!(
        standing(&answer(|_| {}), None),
        Standing::Refused(ApprovalReason::RunNotFound, _)
    ));
    let mut ended = run();
    let status = ended.status.as_mut().unwrap();
    status.completion_time = Some(Time(Timestamp::UNIX_EPOCH));
    assert_eq!(
        told(&answer(|_| {}), &ended),
        "RunEnded: the run `pears-4` has ended"
    );
    let mut timed_out = run();
    timed_out.status.as_mut().unwrap().jobs[1].state = JobState::Failed;
    assert!(told(&answer(|_| {}), &timed_out).starts_with("NotWaiting"));
}

#[test]
fn the_answer_in_the_status_counts_and_no_other_does() {
    let mut run = run();
    let request = &mut run.status.as_mut().unwrap().approvals[0];
    request.decision = Some(Decision::Reject);
    request.by = Some("bert".to_owned());
    request.approval = Some("ship-0".to_owned());
    assert_eq!(
        told(&answer(|_| {}), &run),
        "AlreadyDecided: `bert` has answered before: Reject"
    );
    run.status.as_mut().unwrap().approvals[0].approval = Some("ship-1".to_owned());
    assert_eq!(told(&answer(|_| {}), &run), "Counts");
}
