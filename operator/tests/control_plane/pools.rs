//! Places of a pool, when the API server does not take what the operator writes.
//! Must not test the planner's choice: that is pure.

use crds::{JobState, PipelineRun, Runner};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::agent::run_to_end;
use crate::bench::{Bench, condition, job, job_of, object, within};

/// Nobody can write the status of one run.
struct Frozen {
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
}

impl Frozen {
    /// Returns when the API server refuses.
    async fn new(bench: &Bench, run: &str) -> Self {
        let frozen = Self {
            policies: Api::all(bench.client.clone()),
            bindings: Api::all(bench.client.clone()),
            name: format!("{}-{run}", bench.namespace),
        };
        let other = format!(
            "object.metadata.namespace != '{}' || object.metadata.name != '{run}'",
            bench.namespace
        );
        let rule = json!({"apiGroups": ["rustci.dev"], "apiVersions": ["*"],
            "operations": ["UPDATE"], "resources": ["pipelineruns/status"]});
        let policy = json!({"metadata": {"name": frozen.name}, "spec": {
            "matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": other}]}});
        let binding = json!({"metadata": {"name": frozen.name},
            "spec": {"policyName": frozen.name, "validationActions": ["Deny"]}});
        let params = PostParams::default();
        let made = frozen.policies.create(&params, &object(policy)).await;
        made.expect("the policy is made");
        let made = frozen.bindings.create(&params, &object(binding)).await;
        made.expect("the policy is bound");
        within("the policy counts", async {
            let dry_run = PatchParams {
                dry_run: true,
                ..PatchParams::default()
            };
            let patch = Patch::Merge(json!({"status": {"observedGeneration": 1}}));
            let runs = bench.api::<PipelineRun>();
            while runs.patch_status(run, &dry_run, &patch).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
        frozen
    }

    async fn thaw(self) {
        let params = DeleteParams::default();
        let unbound = self.bindings.delete(&self.name, &params).await;
        unbound.expect("the policy is unbound");
        let gone = self.policies.delete(&self.name, &params).await;
        gone.expect("the policy is removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_stays_taken_while_the_status_that_takes_it_cannot_be_written() {
    let bench = Bench::new("pool-held").await;
    bench
        .create::<Runner>(json!({"metadata": {"name": "small"}, "spec": {"max": 1}}))
        .await;
    let mut only = job("only", &[], "true");
    only["runner"] = json!("small");
    bench.pipeline("pooled", json!([only])).await;
    let first = bench.run("first", "pooled").await;
    let frozen = Frozen::new(&bench, "first").await;
    let _operator = bench.operator(&[]).await;
    let uid = first.uid().unwrap();
    let pod = planner::names::place("first", &uid, "only", 1);
    bench.wait(&pod, "there", |_: &Pod| true).await;

    bench.run("second", "pooled").await;
    let is_planned = |run: &PipelineRun| job_of(run, "only").is_some();
    let second = bench.wait_run("second", "planned", is_planned).await;
    let waiting = job_of(&second, "only").unwrap();
    let found = (waiting.state, waiting.reason.as_deref());
    assert_eq!(found, (JobState::Pending, Some("WaitingForRunner")));
    let pods = bench.api::<Pod>().list(&ListParams::default()).await;
    assert_eq!(pods.unwrap().items.len(), 1);

    frozen.thaw().await;
    for run in ["first", "second"] {
        run_to_end(&bench, &bench.pod_of(run, "only").await).await;
        let run = bench.finished(run).await;
        assert_eq!(condition(&run, "Succeeded").0, "True");
    }
}
