//! A node without a machine: the real scheduler and controllers see it, no kubelet serves it.
//! Must not take pods of other tests: a taint keeps them away.

use std::future::Future;

use anyhow::Result;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::namespace::TestNamespace;
use crate::pipeline::OneJob;

/// Label and taint of the node; the value is its name.
const MARK: &str = "e2e.rustci.dev/node";
/// Where kubelets say that they live.
const LEASES: &str = "kube-node-lease";

/// The node of one test.
#[derive(Clone)]
pub struct BareNode {
    /// Its name.
    pub name: String,
    nodes: Api<Node>,
    leases: Api<Lease>,
}

impl BareNode {
    /// Makes a node that is ready, runs the test with it, and removes it whatever the outcome.
    pub async fn with<F, T>(namespace: &TestNamespace, test: T) -> Result<()>
    where
        T: FnOnce(Self) -> F,
        F: Future<Output = Result<()>>,
    {
        let client = namespace.client.clone();
        let node = Self {
            name: namespace.name.clone(),
            nodes: Api::all(client.clone()),
            leases: Api::namespaced(client, LEASES),
        };
        let outcome = match node.create().await {
            Ok(()) => test(node.clone()).await,
            Err(error) => Err(error),
        };
        node.delete().await?;
        outcome
    }

    /// Lets a pipeline's job run on this node and on no other. Once the node is out of reach the
    /// pod is evicted at once, not after the five minutes that Kubernetes gives by itself.
    pub fn takes(&self, pipeline: OneJob) -> OneJob {
        let tolerations = json!([
            {"key": MARK, "operator": "Exists", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists",
                "effect": "NoExecute", "tolerationSeconds": 0},
        ]);
        let selector = json!({MARK: self.name});
        pipeline.with_job(
            "pod",
            json!({"nodeSelector": selector, "tolerations": tolerations}),
        )
    }

    /// Says of a pod what the kubelet would say once the job's container runs.
    pub async fn runs(&self, namespace: &TestNamespace, pod: &str) -> Result<()> {
        let at = k8s_openapi::jiff::Timestamp::now().to_string();
        let status = |name: &str, state: Value| {
            json!({"name": name, "state": state, "image": "i", "imageID": "i", "ready": false,
                "restartCount": 0})
        };
        let carrier = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        let patch = json!({"status": {"phase": "Running", "startTime": at, "containerStatuses": [
            status("carrier", carrier), status("job", json!({"running": {"startedAt": at}}))]}});
        let (pods, params) = (namespace.api::<Pod>(), PatchParams::default());
        pods.patch_status(pod, &params, &Patch::Strategic(patch))
            .await?;
        Ok(())
    }

    /// Its kubelet is heard of no more: what the node controller would find after 50 s.
    pub async fn is_unreachable(&self) -> Result<()> {
        let patch = json!({"status": {"conditions": [condition("Unknown")]}});
        let params = PatchParams::default();
        self.nodes
            .patch_status(&self.name, &params, &Patch::Strategic(patch))
            .await?;
        Ok(())
    }

    /// An administrator says that the machine is off.
    pub async fn is_out_of_service(&self) -> Result<()> {
        let taint = json!({"key": "node.kubernetes.io/out-of-service", "value": "off",
            "effect": "NoExecute"});
        let patch = json!({"spec": {"taints": [taint]}});
        let params = PatchParams::default();
        self.nodes
            .patch(&self.name, &params, &Patch::Strategic(patch))
            .await?;
        Ok(())
    }

    /// The machine is gone for good: its cloud's controller, or an administrator, deletes the node.
    pub async fn delete(&self) -> Result<()> {
        let params = DeleteParams::default();
        let deleted = [
            self.nodes.delete(&self.name, &params).await.map(drop),
            self.leases.delete(&self.name, &params).await.map(drop),
        ];
        for result in deleted {
            match result {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                other => other?,
            }
        }
        Ok(())
    }

    async fn create(&self) -> Result<()> {
        let now = k8s_openapi::jiff::Timestamp::now();
        let lease = json!({"metadata": {"name": self.name}, "spec": {
            "holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now.to_string()}});
        let resources = json!({"cpu": "4", "memory": "8Gi", "ephemeral-storage": "8Gi",
            "pods": "10"});
        let node = json!({
            "metadata": {"name": self.name, "labels": {MARK: self.name}},
            "spec": {"taints": [{"key": MARK, "value": self.name, "effect": "NoSchedule"}]},
            "status": {"capacity": resources, "allocatable": resources,
                "conditions": [condition("True")]},
        });
        let params = PostParams::default();
        self.leases
            .create(&params, &serde_json::from_value(lease)?)
            .await?;
        self.nodes
            .create(&params, &serde_json::from_value(node)?)
            .await?;
        Ok(())
    }
}

fn condition(status: &str) -> Value {
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    json!({"type": "Ready", "status": status, "reason": "E2e", "message": "said by a test",
        "lastHeartbeatTime": now, "lastTransitionTime": now})
}
