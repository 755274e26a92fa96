//! Runs that retry an ended run, made by hand as with kubectl.
//! Must not test what is taken over in each case: the planner's tests do.

use crds::{JobState, PipelineRun};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::agent::run_to_end;
use crate::bench::{Bench, condition, job, job_of};

/// `make` succeeds with an output, `check` fails, `ship` would use the output.
fn spec() -> Value {
    let mut make = job("make", &[], "echo value=42 >> \"$RUSTCI_OUTPUT\"");
    make["outputs"] = json!([{"name": "value", "value": "${{ steps.only.outputs.value }}"}]);
    let check = job("check", &["make"], "test -e /nowhere/at/all");
    let mut ship = job("ship", &["make"], "test \"$VALUE\" = 42");
    ship["env"] = json!([{"name": "VALUE", "value": "${{ jobs.make.outputs.value }}"}]);
    json!({"jobs": [make, check, ship], "finally": [job("tidy", &[], "true")]})
}

async fn create(bench: &Bench, name: &str, spec: Value, retry: Value) {
    let mut spec = json!({"pipelineSpec": spec});
    if !retry.is_null() {
        spec["retryOf"] = retry;
    }
    let run = json!({"metadata": {"name": name}, "spec": spec});
    bench.create::<PipelineRun>(run).await;
}

/// A run that failed in `check`.
async fn failed(bench: &Bench) {
    create(bench, "first", spec(), Value::Null).await;
    run_to_end(bench, &bench.pod_of("first", "make").await).await;
    for job in ["check", "ship", "tidy"] {
        run_to_end(bench, &bench.pod_of("first", job).await).await;
    }
    let run = bench.finished("first").await;
    assert_eq!(condition(&run, "Succeeded").1, "Failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_takes_over_what_succeeded_and_does_not_need_the_ended_run_any_more() {
    let bench = Bench::new("retry").await;
    let _operator = bench.operator(&[]).await;
    failed(&bench).await;
    let retry = json!({"run": "first", "fromJob": "ship"});
    create(&bench, "second", spec(), retry).await;
    let check = bench.pod_of("second", "check").await;
    let ship = bench.pod_of("second", "ship").await;
    let first = bench.api::<PipelineRun>();
    first
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    run_to_end(&bench, &check).await;
    // Its step sees the output of the job that ran in the first run.
    run_to_end(&bench, &ship).await;
    run_to_end(&bench, &bench.pod_of("second", "tidy").await).await;
    let run = bench.finished("second").await;
    let make = job_of(&run, "make").unwrap();
    assert_eq!(
        (make.state, make.attempt, make.pod),
        (JobState::Succeeded, 1, None)
    );
    assert_eq!(make.from_run.unwrap().name, "first");
    assert_eq!(make.outputs[0].value, "42");
    assert_eq!(job_of(&run, "ship").unwrap().state, JobState::Succeeded);
    let check = job_of(&run, "check").unwrap();
    assert_eq!((check.state, check.from_run), (JobState::Failed, None));
    let events = bench.events().await;
    assert!(
        events.contains("4 jobs, 1 taken over from `first`"),
        "{events}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_refused_when_its_run_is_gone_goes_on_or_is_another() {
    let bench = Bench::new("retry-refused").await;
    let _operator = bench.operator(&[]).await;
    create(&bench, "first", spec(), Value::Null).await;
    bench.pod_of("first", "make").await;
    create(&bench, "early", spec(), json!({"run": "first"})).await;
    create(&bench, "orphan", spec(), json!({"run": "nowhere"})).await;
    let message = async |name: &str| {
        let run = bench.finished(name).await;
        let (status, reason) = condition(&run, "Succeeded");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "RetryRefused")
        );
        let conditions = run.status.unwrap().conditions;
        conditions
            .into_iter()
            .find(|c| c.type_ == "Succeeded")
            .unwrap()
            .message
    };
    assert!(message("early").await.contains("`first` still goes on"));
    assert!(message("orphan").await.contains("no run `nowhere`"));
    let cancel = json!({"spec": {"cancel": true}});
    bench.patch_run("first", cancel).await;
    run_to_end(&bench, &bench.pod_of("first", "tidy").await).await;
    bench.finished("first").await;
    let mut other = spec();
    other["jobs"][0]["steps"][0]["run"] = json!("true");
    create(
        &bench,
        "other",
        other.clone(),
        json!({"run": "first", "failed": true}),
    )
    .await;
    let told = message("other").await;
    assert!(
        told.starts_with("`pipeline.spec.jobs[0].steps[0].run` is not"),
        "{told}"
    );
    let forced = json!({"run": "first", "failed": true, "force": true});
    create(&bench, "forced", other, forced).await;
    bench.pod_of("forced", "make").await;
}
