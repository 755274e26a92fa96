//! Pipelines: runs for new generations, and the pruning of old ones.
//! Must not need agents where a run can fail by itself.

use crds::{Pipeline, PipelineRun};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::agent::run_to_end;
use crate::bench::{Bench, condition, job};

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_says_when_it_starts_the_next_run() {
    let bench = Bench::new("schedule").await;
    let _operator = bench.operator(&[]).await;
    let spec = json!({
        "triggers": {"schedule": [{"cron": "0 3 * * *", "timeZone": "Europe/Berlin"}]},
        "jobs": [job("only", &[], "true")]});
    bench
        .create::<Pipeline>(json!({"metadata": {"name": "nightly"}, "spec": spec}))
        .await;
    let knows_next = |pipeline: &Pipeline| {
        let mut schedules = pipeline.status.iter().flat_map(|status| &status.schedules);
        schedules.any(|schedule| schedule.next_time.is_some())
    };
    let pipeline: Pipeline = bench.wait("nightly", "scheduled", knows_next).await;
    let status = pipeline.status.unwrap();
    let next = status.schedules[0].next_time.as_ref().unwrap().0;
    let handled = status.schedules[0].handled_time.0;
    assert!(next > handled && next.duration_since(handled).as_hours() <= 25);
    assert_eq!(status.last_run, None, "nothing is started before its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_new_generation_of_an_applied_pipeline_starts_one_run() {
    let bench = Bench::new("apply").await;
    let operator = bench.operator(&[]).await;
    let spec = json!({"triggers": {"apply": true}, "jobs": [job("only", &[], "true")]});
    bench
        .create::<Pipeline>(json!({"metadata": {"name": "build"}, "spec": spec}))
        .await;
    let has_run = |generation: i64| {
        move |pipeline: &Pipeline| {
            let status = pipeline.status.as_ref();
            status.and_then(|status| status.last_applied_generation) == Some(generation)
        }
    };
    let pipeline: Pipeline = bench.wait("build", "run once", has_run(1)).await;
    let first = pipeline.status.unwrap().last_run.unwrap();
    run_to_end(&bench, &bench.pod_of(&first, "only").await).await;
    let run = bench.finished(&first).await;
    assert_eq!(
        run.metadata.owner_references.as_ref().unwrap()[0].name,
        "build"
    );

    let change = json!({"spec": {"timeout": "2h"}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(change));
    bench
        .api::<Pipeline>()
        .patch("build", &params, &patch)
        .await
        .unwrap();
    let pipeline: Pipeline = bench.wait("build", "run twice", has_run(2)).await;
    assert_ne!(pipeline.status.unwrap().last_run.unwrap(), first);

    // Another instance finds both runs and starts no third.
    operator.stop();
    operator.ended().await.unwrap();
    let _next = bench.operator(&[]).await;
    bench.run("by-hand", "build").await;
    bench.pod_of("by-hand", "only").await;
    let runs = bench
        .api::<PipelineRun>()
        .list(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(runs.items.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_are_pruned_and_their_logs_with_them() {
    let bench = Bench::new("prune").await;
    let _operator = bench.operator(&[]).await;
    let spec = json!({"retention": {"successful": 1}, "jobs": [job("only", &[], "echo kept")]});
    bench
        .create::<Pipeline>(json!({"metadata": {"name": "often"}, "spec": spec}))
        .await;
    let mut uids = Vec::new();
    for name in ["run-1", "run-2", "run-3"] {
        uids.push(bench.run(name, "often").await.uid().unwrap());
        run_to_end(&bench, &bench.pod_of(name, "only").await).await;
        assert_eq!(
            condition(&bench.finished(name).await, "Succeeded").0,
            "True"
        );
    }
    let logs = bench.data.path().join("logs").join(&bench.namespace);
    let left = |uid: &String| logs.join(uid).exists();
    crate::bench::within("two runs and their logs are pruned", async {
        loop {
            let runs = bench
                .api::<PipelineRun>()
                .list(&ListParams::default())
                .await
                .unwrap();
            let names: Vec<_> = runs.items.iter().map(ResourceExt::name_any).collect();
            if names == ["run-3"] && !left(&uids[0]) && !left(&uids[1]) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(left(&uids[2]), "the newest run keeps its logs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_with_a_mistake_says_where() {
    let bench = Bench::new("mistake").await;
    let _operator = bench.operator(&[]).await;
    let mut wrong = job("only", &[], "true");
    wrong["env"] = json!([{"name": "A", "value": "${{ params.nothing }}"}]);
    bench.pipeline("wrong", json!([wrong])).await;
    let is_stalled = |pipeline: &Pipeline| {
        let conditions = pipeline.status.iter().flat_map(|status| &status.conditions);
        conditions
            .into_iter()
            .any(|c| c.type_ == "Stalled" && c.status == "True" && c.message.contains("nothing"))
    };
    bench.wait("wrong", "stalled", is_stalled).await;
}
