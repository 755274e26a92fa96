//! Policies of concurrency groups, with runs that a real API server keeps.
//! Must not test how the order is computed: that is the planner's part.

use crds::{ConcurrencyStatus, JobState, PipelineRun};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::agent::{self, run_to_end};
use crate::bench::{Bench, condition, job, job_of};

/// Creates a run of the group `deploy` whose only job is `ship`.
async fn create(bench: &Bench, name: &str, more: &Value, script: &str) {
    let mut concurrency = json!({"group": "deploy"});
    for (key, value) in more.as_object().unwrap() {
        concurrency[key] = value.clone();
    }
    let spec = json!({"pipelineSpec":
        {"concurrency": concurrency, "jobs": [job("ship", &[], script)]}});
    bench
        .create::<PipelineRun>(json!({"metadata": {"name": name}, "spec": spec}))
        .await;
}

fn place(run: &PipelineRun) -> Option<ConcurrencyStatus> {
    run.status.as_ref()?.concurrency.clone()
}

/// Waits until a run has this position, and tells what it says of itself.
async fn queued(bench: &Bench, name: &str, position: u32, holder: &str) -> String {
    let is_there = |run: &PipelineRun| {
        place(run).is_some_and(|place| {
            place.position == Some(position) && place.holder.as_deref() == Some(holder)
        })
    };
    let what = format!("number {position} behind {holder}");
    let run = bench.wait_run(name, &what, is_there).await;
    let status = run.status.as_ref().unwrap();
    assert!(status.jobs.is_empty(), "{name} waits, so nothing is begun");
    let mut conditions = status.conditions.iter();
    let own = conditions.find(|c| c.type_ == "Succeeded").unwrap();
    assert_eq!(
        (own.status.as_str(), own.reason.as_str()),
        ("Unknown", "Queued")
    );
    own.message.clone()
}

/// Runs that have begun and not ended.
async fn active(bench: &Bench) -> Vec<String> {
    let runs = bench.api::<PipelineRun>();
    let runs = runs.list(&ListParams::default()).await.unwrap();
    let is_active = |run: &&PipelineRun| {
        let status = run.status.as_ref();
        status.is_some_and(|s| s.start_time.is_some() && s.completion_time.is_none())
    };
    runs.iter()
        .filter(is_active)
        .map(PipelineRun::name_any)
        .collect()
}

async fn succeeds(bench: &Bench, name: &str) {
    run_to_end(bench, &bench.pod_of(name, "ship").await).await;
    let run = bench.finished(name).await;
    assert_eq!(condition(&run, "Succeeded").0, "True");
}

/// Status and reason of a run that gave way to a newer one.
fn superseded() -> (String, String) {
    ("False".to_owned(), "Superseded".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_in_progress_stops_the_running_run_and_starts_the_new_one() {
    let bench = Bench::new("group-cancel").await;
    let _operator = bench.operator(&["--stop-seconds", "1"]).await;
    let policy = json!({"policy": "CancelInProgress"});
    create(&bench, "a-old", &policy, "sleep 600").await;
    let pod = agent::start(&bench, &bench.pod_of("a-old", "ship").await).await;
    let is_running =
        |run: &PipelineRun| job_of(run, "ship").is_some_and(|job| job.state == JobState::Running);
    bench.wait_run("a-old", "running", is_running).await;
    create(&bench, "b-new", &policy, "true").await;
    pod.ended(&bench).await;
    let old = bench.finished("a-old").await;
    assert_eq!(condition(&old, "Succeeded"), superseded());
    assert_eq!(job_of(&old, "ship").unwrap().state, JobState::Cancelled);
    succeeds(&bench, "b-new").await;
    let new = bench.finished("b-new").await.status.unwrap();
    let old = old.status.unwrap();
    let (end, start) = (old.completion_time.unwrap(), new.start_time.unwrap());
    assert!(start.0 >= end.0, "never two at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_only_leaves_the_running_run_alone_and_skips_all_that_wait_but_the_newest() {
    let bench = Bench::new("group-latest").await;
    let _operator = bench.operator(&[]).await;
    let policy = json!({"policy": "LatestOnly"});
    create(&bench, "a-first", &policy, "true").await;
    bench.pod_of("a-first", "ship").await;
    for name in ["b-second", "c-third", "d-fourth"] {
        create(&bench, name, &policy, "true").await;
    }
    for name in ["b-second", "c-third"] {
        let run = bench.finished(name).await;
        assert_eq!(condition(&run, "Succeeded"), superseded());
        let status = run.status.unwrap();
        assert!(status.jobs.is_empty(), "{name} never began");
    }
    queued(&bench, "d-fourth", 1, "a-first").await;
    assert_eq!(active(&bench).await, ["a-first"]);
    succeeds(&bench, "a-first").await;
    succeeds(&bench, "d-fourth").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_of_a_group_for_two_go_on_while_the_third_names_its_place_and_a_holder() {
    let bench = Bench::new("group-two").await;
    let _operator = bench.operator(&[]).await;
    let two = json!({"maxParallel": 2});
    for name in ["a-first", "b-second"] {
        create(&bench, name, &two, "true").await;
        bench.pod_of(name, "ship").await;
    }
    create(&bench, "c-third", &two, "true").await;
    let message = queued(&bench, "c-third", 1, "a-first").await;
    let wanted = "waits for the group `deploy`, held by the run `a-first`: \
                  it is number 1 in the queue";
    assert_eq!(message, wanted);
    assert_eq!(active(&bench).await, ["a-first", "b-second"]);
    let pods = bench.api::<Pod>().list(&ListParams::default()).await;
    assert_eq!(pods.unwrap().items.len(), 2, "the third has no pod");
    // Either of the two makes room, not only the one that is named.
    succeeds(&bench, "b-second").await;
    bench.pod_of("c-third", "ship").await;
    assert_eq!(active(&bench).await, ["a-first", "c-third"]);
    let third = bench.api::<PipelineRun>().get("c-third").await.unwrap();
    let third = place(&third).unwrap();
    assert_eq!(
        (third.position, third.holder, third.max_parallel),
        (None, None, 2)
    );
    succeeds(&bench, "c-third").await;
    succeeds(&bench, "a-first").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_priorities_is_the_same_after_the_operator_has_been_restarted() {
    let bench = Bench::new("group-priority").await;
    let operator = bench.operator(&[]).await;
    create(&bench, "holder", &json!({}), "true").await;
    bench.pod_of("holder", "ship").await;
    let waiting = [
        ("a-low", 0),
        ("b-high", 10),
        ("c-middle", 5),
        ("d-high", 10),
    ];
    for (name, priority) in waiting {
        create(&bench, name, &json!({"priority": priority}), "true").await;
    }
    let all_queued = async |order: &[&str]| {
        for (name, position) in order.iter().zip(1..) {
            queued(&bench, name, position, "holder").await;
        }
    };
    all_queued(&["b-high", "d-high", "c-middle", "a-low"]).await;
    operator.stop();
    operator.ended().await.unwrap();
    let _operator = bench.operator(&[]).await;
    // One that comes now makes the new operator place it among those it never saw come.
    create(&bench, "e-between", &json!({"priority": 7}), "true").await;
    let order = ["b-high", "d-high", "e-between", "c-middle", "a-low"];
    all_queued(&order).await;
    bench
        .patch_run("holder", json!({"spec": {"cancel": true}}))
        .await;
    bench.finished("holder").await;
    for name in order {
        let pod = bench.pod_of(name, "ship").await;
        assert_eq!(active(&bench).await, [name]);
        run_to_end(&bench, &pod).await;
        assert_eq!(
            condition(&bench.finished(name).await, "Succeeded").0,
            "True"
        );
    }
}
