//! Runs from their creation to their end.
//! Must not assert the order of calls: the end state counts.

use crds::{FailureClass, JobState, Pipeline, PipelineRun};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::DeleteParams;
use serde_json::json;

use crate::agent::{self, run_to_end, running, statuses};
use crate::bench::{Bench, condition, job, job_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_one_step_run_by_reference_succeeds_with_few_writes() {
    let bench = Bench::new("one-step").await;
    let operator = bench.operator(&[]).await;
    bench
        .pipeline("hello", json!([job("greet", &[], "echo hello")]))
        .await;
    bench
        .wait("hello", "ready", |pipeline: &Pipeline| {
            pipeline.status.is_some()
        })
        .await;
    let before = operator.metrics.total_api_writes();
    bench.run("first", "hello").await;
    let pod = bench.pod_of("first", "greet").await;
    let end = run_to_end(&bench, &pod).await;
    assert!(end.delivered, "result and logs are acknowledged");
    let run = bench.finished("first").await;
    assert_eq!(condition(&run, "Succeeded").0, "True");
    let greet = job_of(&run, "greet").unwrap();
    assert_eq!(
        (greet.state, greet.attempt, greet.steps.len()),
        (JobState::Succeeded, 1, 1)
    );
    assert_eq!(greet.steps[0].exit_code, Some(0));
    let events = bench.events().await;
    assert!(events.contains("first Succeeded"), "{events}");
    operator.stop();
    let metrics = operator.metrics.clone();
    operator.ended().await.unwrap();
    let writes = metrics.total_api_writes() - before;
    assert!(
        writes <= 8,
        "{writes} API writes for a one-step run:\n{}",
        metrics.encode()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_pipeline_runs_jobs_in_the_order_of_their_needs() {
    let bench = Bench::new("inline").await;
    let _operator = bench.operator(&[]).await;
    let mut first = job("make", &[], "echo value=42 >> \"$RUSTCI_OUTPUT\"");
    first["outputs"] = json!([{"name": "value", "value": "${{ steps.only.outputs.value }}"}]);
    let mut second = job("use", &["make"], "test \"$VALUE\" = 42");
    second["env"] = json!([{"name": "VALUE", "value": "${{ jobs.make.outputs.value }}"}]);
    let spec = json!({"pipelineSpec": {"jobs": [first, second]}});
    bench
        .create::<PipelineRun>(json!({"metadata": {"name": "chain"}, "spec": spec}))
        .await;
    run_to_end(&bench, &bench.pod_of("chain", "make").await).await;
    run_to_end(&bench, &bench.pod_of("chain", "use").await).await;
    let run = bench.finished("chain").await;
    assert_eq!(condition(&run, "Succeeded").0, "True");
    assert_eq!(job_of(&run, "make").unwrap().outputs[0].value, "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_group_wait_for_each_other_across_a_restart() {
    let bench = Bench::new("group").await;
    let operator = bench.operator(&[]).await;
    let spec = json!({"pipelineSpec": {
        "concurrency": {"group": "deploy"}, "jobs": [job("ship", &[], "true")]}});
    let create = async |name: &str| {
        bench
            .create::<PipelineRun>(json!({"metadata": {"name": name}, "spec": spec}))
            .await;
    };
    create("ga").await;
    bench.pod_of("ga", "ship").await;
    for (name, position) in [("gb", 1), ("gc", 2)] {
        create(name).await;
        let is_queued = |run: &PipelineRun| {
            let status = run.status.as_ref();
            let place = status.and_then(|status| status.concurrency.as_ref());
            place.is_some_and(|place| place.position == Some(position))
        };
        let run = bench.wait_run(name, "queued", is_queued).await;
        assert_eq!(condition(&run, "Succeeded").1, "Queued");
    }
    operator.stop();
    operator.ended().await.unwrap();
    let _operator = bench.operator(&[]).await;
    bench
        .patch_run("ga", json!({"spec": {"cancel": true}}))
        .await;
    bench.finished("ga").await;
    let mut last_end = None;
    for name in ["gb", "gc"] {
        run_to_end(&bench, &bench.pod_of(name, "ship").await).await;
        let run = bench.finished(name).await;
        assert_eq!(condition(&run, "Succeeded").0, "True");
        let status = run.status.expect("it has ended");
        let start = status.start_time.map(|time| time.0);
        assert!(start >= last_end, "never two at once");
        last_end = status.completion_time.map(|time| time.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_step_fails_the_run_and_skips_what_needs_it() {
    let bench = Bench::new("failing").await;
    let _operator = bench.operator(&[]).await;
    bench
        .pipeline(
            "bad",
            json!([
                job("break", &[], "exit 3"),
                job("after", &["break"], "true")
            ]),
        )
        .await;
    bench.run("red", "bad").await;
    run_to_end(&bench, &bench.pod_of("red", "break").await).await;
    let run = bench.finished("red").await;
    assert_eq!(condition(&run, "Succeeded").0, "False");
    let broken = job_of(&run, "break").unwrap();
    assert_eq!(broken.failure_class, Some(FailureClass::User));
    assert_eq!(broken.steps[0].exit_code, Some(3));
    assert_eq!(job_of(&run, "after").unwrap().state, JobState::Skipped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_stops_its_agent() {
    let bench = Bench::new("cancel").await;
    let _operator = bench.operator(&["--stop-seconds", "1"]).await;
    bench
        .pipeline("long", json!([job("sleep", &[], "sleep 600")]))
        .await;
    bench.run("stopped", "long").await;
    let pod = agent::start(&bench, &bench.pod_of("stopped", "sleep").await).await;
    let is_running =
        |run: &PipelineRun| job_of(run, "sleep").is_some_and(|job| job.state == JobState::Running);
    bench.wait_run("stopped", "running", is_running).await;
    bench
        .patch_run("stopped", json!({"spec": {"cancel": true}}))
        .await;
    pod.ended(&bench).await;
    let run = bench.finished("stopped").await;
    assert_eq!(
        condition(&run, "Succeeded"),
        ("False".to_owned(), "Cancelled".to_owned())
    );
    assert_eq!(job_of(&run, "sleep").unwrap().state, JobState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_missing_pipeline_waits_and_then_fails() {
    let bench = Bench::new("missing").await;
    let _operator = bench.operator(&["--missing-config-seconds", "2"]).await;
    bench.run("lost", "nowhere").await;
    let run = bench.finished("lost").await;
    let succeeded = ("False".to_owned(), "PipelineNotFound".to_owned());
    assert_eq!(condition(&run, "Succeeded"), succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_comes_after_its_run_is_taken_up() {
    let bench = Bench::new("late").await;
    let _operator = bench.operator(&[]).await;
    bench.run("early", "late").await;
    let waits = |run: &PipelineRun| condition(run, "Succeeded").1 == "WaitingForPipeline";
    bench
        .wait_run("early", "waiting for its pipeline", waits)
        .await;
    bench
        .pipeline("late", json!([job("only", &[], "true")]))
        .await;
    run_to_end(&bench, &bench.pod_of("early", "only").await).await;
    assert_eq!(
        condition(&bench.finished("early").await, "Succeeded").0,
        "True"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_refuses_the_pod_is_named_and_waited_for() {
    let bench = Bench::new("quota").await;
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    bench.create::<ResourceQuota>(quota).await;
    // Without controllers nobody counts what is used, so the test says it.
    let api = bench.api::<ResourceQuota>();
    let status = json!({"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}});
    let patch = kube::api::Patch::Merge(status);
    api.patch_status("none", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    let _operator = bench.operator(&["--pending-seconds", "3"]).await;
    bench
        .pipeline("hello", json!([job("greet", &[], "true")]))
        .await;
    bench.run("refused", "hello").await;
    let waits = |run: &PipelineRun| {
        job_of(run, "greet").is_some_and(|job| job.reason.as_deref() == Some("QuotaExceeded"))
    };
    bench
        .wait_run("refused", "waiting for its quota", waits)
        .await;
    let run = bench.finished("refused").await;
    let greet = job_of(&run, "greet").unwrap();
    assert_eq!(greet.failure_class, Some(FailureClass::Quota));
    assert!(greet.message.unwrap().contains("exceeded quota"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_breaks_the_namespaces_rules_fails_the_job_with_the_reason() {
    let bench = Bench::new("root").await;
    let _operator = bench.operator(&[]).await;
    let mut root = job("root", &[], "true");
    root["pod"] = json!({"runAsUser": 0});
    bench.pipeline("root", json!([root])).await;
    bench.run("refused", "root").await;
    let run = bench.finished("refused").await;
    let root = job_of(&run, "root").unwrap();
    assert_eq!(root.reason.as_deref(), Some("PodRefused"));
    assert!(root.message.unwrap().contains("violates PodSecurity"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_fails_the_job_in_bounded_time() {
    let bench = Bench::new("secret").await;
    let _operator = bench.operator(&["--missing-config-seconds", "1"]).await;
    let mut with_secret = job("read", &[], "true");
    with_secret["env"] =
        json!([{"name": "T", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}}]);
    bench.pipeline("secret", json!([with_secret])).await;
    bench.run("unset", "secret").await;
    let pod = bench.pod_of("unset", "read").await;
    let mut status = running();
    let waiting = json!({"waiting": {"reason": "CreateContainerConfigError",
        "message": "secret \"absent\" not found"}});
    status["phase"] = json!("Pending");
    status["containerStatuses"] = statuses(waiting);
    bench
        .pod_status(pod.metadata.name.as_deref().unwrap(), status)
        .await;
    let run = bench.finished("unset").await;
    let read = job_of(&run, "read").unwrap();
    assert_eq!(read.failure_class, Some(FailureClass::Configuration));
    assert!(read.message.unwrap().contains("absent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_in_mid_job_fails_the_job() {
    let bench = Bench::new("deleted").await;
    let _operator = bench.operator(&[]).await;
    bench
        .pipeline("long", json!([job("sleep", &[], "sleep 600")]))
        .await;
    bench.run("cut", "long").await;
    let pod = agent::start(&bench, &bench.pod_of("cut", "sleep").await).await;
    let is_running =
        |run: &PipelineRun| job_of(run, "sleep").is_some_and(|job| job.state == JobState::Running);
    bench.wait_run("cut", "running", is_running).await;
    pod.agent.abort();
    let now = DeleteParams::default().grace_period(0);
    bench.api::<Pod>().delete(&pod.name, &now).await.unwrap();
    let run = bench.finished("cut").await;
    let sleep = job_of(&run, "sleep").unwrap();
    assert_eq!(sleep.failure_class, Some(FailureClass::Infrastructure));
    assert_eq!(sleep.reason.as_deref(), Some("PodDeleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_in_the_termination_message_counts_when_the_hub_never_heard_it() {
    let bench = Bench::new("backup").await;
    let _operator = bench.operator(&[]).await;
    bench
        .pipeline("hello", json!([job("greet", &[], "true")]))
        .await;
    let created = bench.run("silent", "hello").await;
    let pod = bench.pod_of("silent", "greet").await;
    let result = runner_messages::JobResult {
        job: Some(runner_messages::JobKey {
            namespace: bench.namespace.clone(),
            run: "silent".to_owned(),
            run_uid: created.metadata.uid.unwrap(),
            job: "greet".to_owned(),
            attempt: 1,
            fence: job_of(
                &bench.api::<PipelineRun>().get("silent").await.unwrap(),
                "greet",
            )
            .unwrap()
            .fence,
        }),
        outcome: runner_messages::Outcome::Succeeded.into(),
        ..runner_messages::JobResult::default()
    };
    let message = runner_messages::termination::encode(&result);
    let ended = json!({"terminated": {"exitCode": 0, "message": message}});
    let status = json!({"phase": "Succeeded", "containerStatuses": statuses(ended)});
    bench
        .pod_status(pod.metadata.name.as_deref().unwrap(), status)
        .await;
    assert_eq!(
        condition(&bench.finished("silent").await, "Succeeded").0,
        "True"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_with_one_place_runs_one_job_after_the_other() {
    let bench = Bench::new("pool").await;
    let _operator = bench.operator(&[]).await;
    bench
        .create::<crds::Runner>(json!({"metadata": {"name": "small"}, "spec": {"max": 1}}))
        .await;
    let mut only = job("only", &[], "true");
    only["runner"] = json!("small");
    bench.pipeline("queued", json!([only])).await;
    let runs = ["one", "two", "three"];
    for name in runs {
        bench.run(name, "queued").await;
    }
    let mut waiting: Vec<_> = runs.to_vec();
    while !waiting.is_empty() {
        // Exactly one run may have a pod at a time.
        let next = futures::future::select_all(
            waiting
                .iter()
                .map(|name| Box::pin(bench.pod_of(name, "only"))),
        );
        let (pod, index, _) = next.await;
        let pods = bench
            .api::<Pod>()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap();
        let is_open = |pod: &&Pod| {
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
        };
        assert_eq!(pods.items.iter().filter(is_open).count(), 1);
        let name = waiting.remove(index);
        run_to_end(&bench, &pod).await;
        assert_eq!(
            condition(&bench.finished(name).await, "Succeeded").0,
            "True"
        );
    }
}
