//! `rustci approve` and `rustci reject`: answers a job that waits for approval.
//! Must not decide whether the answer counts: the operator does, and says why.

use std::io::Write;
use std::time::Duration;

use crds::{Approval, ApprovalSpec, Decision, PipelineRun, condition};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use planner::names::nearest;

use super::connect::{Cluster, status};
use crate::args::AnswerArguments;
use crate::failure::Failure;
use crate::verdict::Verdict;

/// Longest wait for the operator's word; it usually takes a moment.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most groups that an answer can name.
const MAX_GROUPS: usize = 256;

/// Makes the answer under the user's own name, and waits until the operator has judged it.
pub async fn answer(
    arguments: &AnswerArguments,
    decision: Decision,
    out: &mut dyn Write,
) -> Result<Verdict, Failure> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    let run = cluster.run(&arguments.run).await?;
    let job = job_of(&run, &arguments.job)?;
    let user = who_am_i(&cluster).await?;
    let name = user.username.unwrap_or_default();
    let mut groups = user.groups.unwrap_or_default();
    groups.truncate(MAX_GROUPS);
    let spec = ApprovalSpec {
        run: run.name_any(),
        run_uid: run.uid().unwrap_or_default(),
        job: job.clone(),
        decision,
        comment: arguments.comment.clone(),
        user: name.clone(),
        groups,
    };
    let judged = judged(&cluster, create(&cluster, &run, spec).await?).await?;
    if judged.status != "True" {
        let (reason, message) = (judged.reason, judged.message);
        return Err(Failure::usage(format!(
            "the answer does not count: {message} ({reason})"
        )));
    }
    let verb = match decision {
        Decision::Approve => "approved",
        Decision::Reject => "rejected",
    };
    let run = run.name_any();
    let told = writeln!(out, "job {job} of run {run} is {verb} by {name}");
    told.map_err(|error| Failure::infrastructure(error.to_string()))?;
    Ok(Verdict::Succeeded)
}

/// The job that is meant, by its name or by that of one of its matrix.
fn job_of(run: &PipelineRun, wanted: &str) -> Result<String, Failure> {
    let status = status(run);
    let asked = |job: &str| status.approvals.iter().any(|request| request.job == job);
    let entries = status.jobs.iter();
    let names = || {
        entries
            .clone()
            .map(|job| job.job.as_ref().unwrap_or(&job.name))
    };
    let of_matrix = status.jobs.iter().find(|job| job.name == wanted);
    let of_matrix = of_matrix.and_then(|job| job.job.as_deref());
    let job = of_matrix.unwrap_or(wanted);
    if asked(job) {
        return Ok(job.to_owned());
    }
    let run = run.name_any();
    if names().any(|name| name == job) {
        return Err(Failure::usage(format!(
            "the job `{job}` of run `{run}` does not wait for approval: `rustci explain {run}` \
             shows what it waits for"
        )));
    }
    let remedy = match nearest(job, names().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`rustci get {run}` lists its jobs"),
    };
    Err(Failure::usage(format!(
        "the run `{run}` has no job `{job}`: {remedy}"
    )))
}

/// Name and groups, as the API server knows them.
async fn who_am_i(cluster: &Cluster) -> Result<UserInfo, Failure> {
    let api: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let review = review.map_err(|error| cluster.failure("user", "", &error))?;
    let status = review.status.unwrap_or_default();
    Ok(status.user_info.unwrap_or_default())
}

async fn create(
    cluster: &Cluster,
    run: &PipelineRun,
    spec: ApprovalSpec,
) -> Result<Approval, Failure> {
    let job = spec.job.clone();
    let mut approval = Approval::new("", spec);
    approval.metadata.name = None;
    approval.metadata.generate_name = Some(format!("{job}-"));
    approval.metadata.owner_references = run.owner_ref(&()).map(|owner| vec![owner]);
    let created = approvals(cluster)
        .create(&PostParams::default(), &approval)
        .await;
    created.map_err(|error| cluster.failure("approval", "", &error))
}

/// Waits for the operator's word on an answer.
async fn judged(cluster: &Cluster, approval: Approval) -> Result<Condition, Failure> {
    let name = approval.name_any();
    let stream = watcher::watch_object(approvals(cluster), &name).default_backoff();
    let word = stream.filter_map(async |item| accepted(&item.ok()??));
    pin_mut!(word);
    let waited = tokio::time::timeout(PATIENCE, word.next()).await;
    waited.ok().flatten().ok_or_else(|| {
        let namespace = &cluster.namespace;
        Failure::infrastructure(format!(
            "no operator has looked at the answer so far; it stays: `kubectl get approval {name} \
             -n {namespace}` shows what becomes of it"
        ))
    })
}

fn accepted(approval: &Approval) -> Option<Condition> {
    let conditions = &approval.status.as_ref()?.conditions;
    let found = conditions.iter().find(|it| it.type_ == condition::ACCEPTED);
    found.cloned()
}

fn approvals(cluster: &Cluster) -> Api<Approval> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

#[cfg(test)]
mod tests {
    use crds::{ApprovalRequest, JobStatus, PipelineRunSpec, PipelineRunStatus};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn run() -> PipelineRun {
        let entry = |name: &str, job: Option<&str>| JobStatus {
            name: name.to_owned(),
            job: job.map(str::to_owned),
            ..JobStatus::default()
        };
        let epoch = Time(Timestamp::UNIX_EPOCH);
        let mut run = PipelineRun::new("oak-1", PipelineRunSpec::default());
        run.status = Some(PipelineRunStatus {
            jobs: vec![
                entry("fell", None),
                entry("ship.east", Some("ship")),
                entry("ship.west", Some("ship")),
            ],
            approvals: vec![ApprovalRequest::new("ship", epoch.clone(), epoch)],
            ..PipelineRunStatus::default()
        });
        run
    }

    #[test]
    fn a_job_is_meant_by_its_name_and_by_one_of_its_matrix() {
        assert_eq!(job_of(&run(), "ship").unwrap(), "ship");
        assert_eq!(job_of(&run(), "ship.east").unwrap(), "ship");
    }

    #[test]
    fn what_cannot_be_answered_says_what_to_do() {
        let told = |job: &str| job_of(&run(), job).unwrap_err().message;
        assert_eq!(
            told("fell"),
            "the job `fell` of run `oak-1` does not wait for approval: `rustci explain oak-1` \
             shows what it waits for"
        );
        assert_eq!(
            told("shp"),
            "the run `oak-1` has no job `shp`: did you mean `ship`?"
        );
        assert_eq!(
            told("mulch"),
            "the run `oak-1` has no job `mulch`: `rustci get oak-1` lists its jobs"
        );
    }
}
