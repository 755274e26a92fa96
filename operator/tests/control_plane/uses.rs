//! Runs whose jobs and steps come from other Pipelines.
//! Must not test what the planner's own tests do: which names and values are right.

use crds::{Pipeline, PipelineRun};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::agent::run_to_end;
use crate::bench::{Bench, condition, job, job_of};

/// Offers a template whose step tells its input and where it comes from.
fn shared(from: &str) -> Value {
    let mut tell = job(
        "tell",
        &[],
        "echo said=\"$FROM $WORD\" >> \"$RUSTCI_OUTPUT\"",
    );
    tell["env"] = json!([{"name": "WORD", "value": "${{ params.word }}"}]);
    tell["outputs"] = json!([{"name": "said", "value": "${{ steps.only.outputs.said }}"}]);
    json!({
        "params": [{"name": "word"}],
        "env": [{"name": "FROM", "value": from}],
        "stepTemplates": [{
            "name": "make",
            "steps": [{"name": "one", "run": "echo made=oak >> \"$RUSTCI_OUTPUT\""}],
            "outputs": [{"name": "made", "value": "${{ steps.one.outputs.made }}"}],
        }],
        "jobs": [tell],
    })
}

fn user() -> Value {
    let mut first = job("first", &[], "true");
    first["steps"] = json!([{"name": "t", "uses": {"pipeline": "shared", "template": "make"}}]);
    first["outputs"] = json!([{"name": "made", "value": "${{ steps.t.outputs.made }}"}]);
    let second = json!({
        "name": "second", "needs": ["first"],
        "uses": {"pipeline": "shared", "job": "tell"},
        "with": [{"name": "word", "value": "${{ jobs.first.outputs.made }}"}],
    });
    json!([first, second])
}

fn message(run: &PipelineRun) -> String {
    let conditions = run.status.iter().flat_map(|status| &status.conditions);
    let mut conditions = conditions.into_iter();
    let found = conditions.find(|found| found.type_ == "Succeeded");
    found.map(|found| found.message.clone()).unwrap_or_default()
}

fn has_reason(wanted: &'static str) -> impl Fn(&PipelineRun) -> bool {
    move |run| {
        let conditions = run.status.iter().flat_map(|status| &status.conditions);
        conditions
            .into_iter()
            .any(|found| found.type_ == "Succeeded" && found.reason == wanted)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_what_it_uses_whatever_becomes_of_it() {
    let bench = Bench::new("uses").await;
    let operator = bench.operator(&[]).await;
    bench.pipeline("user", user()).await;
    bench.run("kept", "user").await;
    let waiting: PipelineRun = bench
        .wait("kept", "waits", has_reason("WaitingForPipeline"))
        .await;
    let message = message(&waiting);
    assert!(
        message.contains("`shared`") && message.contains("job `first` uses"),
        "{message}"
    );

    let made = json!({"metadata": {"name": "shared"}, "spec": shared("old")});
    let made: Pipeline = bench.create(made).await;
    let pod = bench.pod_of("kept", "first").await;
    let change = json!({"spec": shared("new")});
    let (params, patch) = (PatchParams::default(), Patch::Merge(change));
    let pipelines = bench.api::<Pipeline>();
    pipelines.patch("shared", &params, &patch).await.unwrap();
    let suspended = |suspend: bool| json!({"spec": {"suspend": suspend}});
    bench.patch_run("kept", suspended(true)).await;
    let is_seen = |run: &PipelineRun| {
        let status = run.status.as_ref();
        status.and_then(|status| status.observed_generation) == Some(2)
    };
    bench.wait_run("kept", "suspended", is_seen).await;
    run_to_end(&bench, &pod).await;
    let has_ended = |run: &PipelineRun| job_of(run, "first").unwrap().state.is_final();
    bench.wait_run("kept", "half done", has_ended).await;

    // Another instance has nothing but the run, and what it uses is gone.
    operator.stop();
    operator.ended().await.unwrap();
    let deletion = DeleteParams::default();
    pipelines.delete("shared", &deletion).await.unwrap();
    let _next = bench.operator(&[]).await;
    bench.patch_run("kept", suspended(false)).await;
    run_to_end(&bench, &bench.pod_of("kept", "second").await).await;
    let run = bench.finished("kept").await;
    assert_eq!(condition(&run, "Succeeded").0, "True");
    assert_eq!(job_of(&run, "first").unwrap().steps[0].name, "t.one");
    assert_eq!(job_of(&run, "second").unwrap().outputs[0].value, "old oak");
    let used = run.status.unwrap().pipeline.unwrap().used;
    assert_eq!(used.len(), 1);
    assert_eq!(
        (&*used[0].pipeline, &used[0].uid, used[0].generation),
        ("shared", &made.uid(), Some(1))
    );
    assert_eq!(used[0].digest, planner::reuse::digest(&used[0].spec));
    assert_eq!(used[0].spec.env[0].value.as_deref(), Some("old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_exist_ends_the_run_before_it_has_a_pod() {
    let bench = Bench::new("uses-wrong").await;
    let _operator = bench.operator(&[]).await;
    let spec = json!({"metadata": {"name": "shared"}, "spec": shared("x")});
    bench.create::<Pipeline>(spec).await;
    let mut jobs = user();
    jobs[1]["uses"]["job"] = json!("tlel");
    bench.pipeline("user", jobs).await;
    bench.run("wrong", "user").await;
    let run = bench.finished("wrong").await;
    let (status, reason) = condition(&run, "Succeeded");
    assert_eq!((&*status, &*reason), ("False", "InvalidPipeline"));
    let message = message(&run);
    assert!(message.contains("did you mean `tell`?"), "{message}");
    let pods = bench.api::<Pod>().list(&ListParams::default()).await;
    assert!(pods.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_ready_or_not_by_what_it_uses() {
    let bench = Bench::new("uses-ready").await;
    let _operator = bench.operator(&[]).await;
    bench.pipeline("user", user()).await;
    let is_ready = |truth: &'static str, part: &'static str| {
        move |pipeline: &Pipeline| {
            let conditions = pipeline.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|found| {
                found.type_ == "Ready" && found.status == truth && found.message.contains(part)
            })
        }
    };
    bench
        .wait("user", "ready without it", is_ready("True", ""))
        .await;
    let mut other = shared("x");
    other["params"] = json!([{"name": "word", "type": "integer"}]);
    let other = json!({"metadata": {"name": "shared"}, "spec": other});
    bench.create::<Pipeline>(other).await;
    let wrong = is_ready("False", "the param `word` is a whole number");
    bench.wait("user", "not ready", wrong).await;
    let change = json!({"spec": {"params": [{"name": "word", "type": "string"}]}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(change));
    let pipelines = bench.api::<Pipeline>();
    pipelines.patch("shared", &params, &patch).await.unwrap();
    bench
        .wait("user", "ready again", is_ready("True", ""))
        .await;
}
