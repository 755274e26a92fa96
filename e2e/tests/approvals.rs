//! Jobs that wait for people, with people who are who they are to the real API server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{Approval, Decision, JobState, PipelineRun};
use e2e::namespace::{TestNamespace, condition, job};
use e2e::pipeline::OneJob;
use e2e::rustci::rustci_in_cluster;
use e2e::user::User;
use serde_json::json;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(120);

/// Exit code and everything that was printed.
async fn ended(command: &mut Command) -> Result<(i32, String)> {
    let output = command.output().await?;
    let code = output.status.code().context("it was killed")?;
    let out = String::from_utf8_lossy(&output.stdout);
    Ok((
        code,
        format!("{out}{}", String::from_utf8_lossy(&output.stderr)),
    ))
}

async fn answers(user: &User, command: &str, run: &str) -> Result<(i32, String)> {
    let mut rustci = user.rustci()?;
    ended(rustci.args([command, run, "only", "--comment", "as agreed"])).await
}

/// Lets an account answer with `rustci`; whether the job wants it is another thing.
async fn may_approve(namespace: &TestNamespace, user: &User) -> Result<()> {
    let account = format!("--serviceaccount={}:{}", namespace.name, user.account);
    let role = "--clusterrole=rustci-approver";
    let name = format!("{}-approves", user.account);
    namespace
        .kubectl(&["create", "rolebinding", &name, role, &account])
        .await
        .map(drop)
}

/// A run whose job waits for one user.
async fn waiting(namespace: &TestNamespace, name: &str, user: &User) -> Result<PipelineRun> {
    let approval = json!({"users": [user.name], "message": "Ship it?"});
    let pipeline = OneJob::new(name, "echo shipped").with_job("approval", approval);
    namespace.apply(&pipeline.manifest()).await?;
    let run = namespace.start(name).await?;
    let waits = |run: Option<&PipelineRun>| {
        let succeeded = run.and_then(|run| condition(run, "Succeeded"));
        succeeded.is_some_and(|found| found.1 == "AwaitingApproval")
    };
    let run = namespace.wait(&run, "waiting", LIMIT, waits).await?;
    run.context("the run is gone")
}

#[tokio::test]
async fn the_named_user_approves_and_nobody_else_can_not_even_under_that_name() -> Result<()> {
    TestNamespace::with("approval", |namespace| async move {
        let ann = User::create(&namespace, "ann").await?;
        let bert = User::create(&namespace, "bert").await?;
        let carl = User::create(&namespace, "carl").await?;
        may_approve(&namespace, &ann).await?;
        may_approve(&namespace, &bert).await?;
        let run = waiting(&namespace, "approval", &ann).await?;
        let name = run.metadata.name.clone().unwrap_or_default();
        ensure!(namespace.pods().await?.is_empty(), "waiting needs no pod");

        let (code, said) = answers(&carl, "approve", &name).await?;
        ensure!(
            code == 2 && said.contains("the cluster refuses"),
            "{code}: {said}"
        );
        let (code, said) = answers(&bert, "approve", &name).await?;
        ensure!(
            code == 2 && said.contains("is not among them"),
            "{code}: {said}"
        );
        let (code, said) = forged(&namespace, &bert, &ann, &run).await?;
        ensure!(
            code != 0 && said.contains("must be your own user name"),
            "{said}"
        );
        is_explained(&namespace, &ann, &bert, &name).await?;

        let (code, said) = answers(&ann, "approve", &name).await?;
        ensure!(
            code == 0 && said.contains("is approved by"),
            "{code}: {said}"
        );
        let ended = namespace.ended(&name, LIMIT).await?;
        ensure!(
            job(&ended, "only")?.state == JobState::Succeeded,
            "{ended:#?}"
        );
        let answer = &ended.status.as_ref().context("no status")?.approvals[0];
        ensure!(answer.decision == Some(Decision::Approve), "{answer:#?}");
        ensure!(answer.by.as_ref() == Some(&ann.name), "{answer:#?}");
        ensure!(answer.at.is_some() && answer.comment.as_deref() == Some("as agreed"));
        let (code, said) = answers(&ann, "reject", &name).await?;
        ensure!(
            code == 2 && said.contains("AlreadyDecided"),
            "{code}: {said}"
        );
        answers_go_with_their_run(&namespace, &name).await
    })
    .await
}

/// With kubectl and without the program: an answer under another name.
async fn forged(
    namespace: &TestNamespace,
    maker: &User,
    claimed: &User,
    run: &PipelineRun,
) -> Result<(i32, String)> {
    let approval = json!({
        "apiVersion": "rustci.dev/v1alpha1", "kind": "Approval",
        "metadata": {"name": "forged", "namespace": namespace.name},
        "spec": {"run": run.metadata.name, "runUid": run.metadata.uid, "job": "only",
            "decision": "Approve", "user": claimed.name},
    });
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    std::fs::write(file.path(), approval.to_string())?;
    let mut kubectl = maker.kubectl()?;
    ended(kubectl.args(["create", "-f"]).arg(file.path())).await
}

async fn is_explained(namespace: &TestNamespace, ann: &User, bert: &User, run: &str) -> Result<()> {
    let mut explain = rustci_in_cluster()?;
    let (code, said) = ended(explain.args(["explain", run, "-n", &namespace.name])).await?;
    let words = [
        format!("waits for the approval of the user `{}` until", ann.name),
        "it asks: Ship it?".to_owned(),
        format!("the answer of `{}` does not count", bert.name),
        format!("`rustci approve {run} only -n {}`", namespace.name),
        "update pipelineruns/approval".to_owned(),
    ];
    for part in words {
        ensure!(code == 0 && said.contains(&part), "no {part:?} in:\n{said}");
    }
    Ok(())
}

async fn answers_go_with_their_run(namespace: &TestNamespace, run: &str) -> Result<()> {
    let approvals = namespace.api::<Approval>();
    let all = approvals.list(&Default::default()).await?.items;
    ensure!(all.len() == 3, "ann twice, bert once: {all:#?}");
    namespace.kubectl(&["delete", "prun", run]).await?;
    for approval in all {
        let name = approval.metadata.name.unwrap_or_default();
        let is_gone = |found: Option<&Approval>| found.is_none();
        namespace.wait(&name, "gone", LIMIT, is_gone).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_rejected_job_fails_and_its_run_says_who_and_why() -> Result<()> {
    TestNamespace::with("rejected", |namespace| async move {
        let ann = User::create(&namespace, "ann").await?;
        may_approve(&namespace, &ann).await?;
        let run = waiting(&namespace, "rejected", &ann).await?;
        let name = run.metadata.name.unwrap_or_default();
        let (code, said) = answers(&ann, "reject", &name).await?;
        ensure!(
            code == 0 && said.contains("is rejected by"),
            "{code}: {said}"
        );
        let ended = namespace.ended(&name, LIMIT).await?;
        let only = job(&ended, "only")?;
        ensure!(only.reason.as_deref() == Some("Rejected"), "{only:#?}");
        let message = format!("rejected by {}: as agreed", ann.name);
        ensure!(only.message.as_ref() == Some(&message), "{only:#?}");
        ensure!(namespace.pods().await?.is_empty(), "it never had a pod");
        Ok(())
    })
    .await
}
