//! Makes pods, Services and claims in the default namespace and waits for them.
//! It must not wait without end, and shows the pod when it gives up.

use std::time::{Duration, Instant};

use cluster::Cluster;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::api::{LogParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

pub(crate) struct Pods {
    client: Client,
    pods: Api<Pod>,
}

impl Pods {
    pub(crate) async fn new(cluster: &Cluster) -> Pods {
        let client = cluster.client().await.unwrap();
        Pods {
            pods: Api::default_namespaced(client.clone()),
            client,
        }
    }

    /// Makes a pod and waits until it has succeeded.
    pub(crate) async fn run(&self, name: &str, image: &str, command: &[&str], user: i64) {
        self.create(name, pod(name, image, command, user)).await;
        self.wait(name, "Succeeded").await;
    }

    /// Makes a pod and waits until it runs.
    pub(crate) async fn start(&self, name: &str, image: &str, command: &[&str], user: i64) {
        self.create(name, pod(name, image, command, user)).await;
        self.wait(name, "Running").await;
    }

    /// Makes a pod with a claim at `/data` and waits until it has succeeded.
    pub(crate) async fn run_with_claim(&self, name: &str, claim: &str, command: &[&str]) {
        let mut pod = pod(name, cluster::images::BUSYBOX, command, 1000);
        pod["spec"]["volumes"] =
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]);
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "data", "mountPath": "/data"}]);
        self.create(name, pod).await;
        self.wait(name, "Succeeded").await;
    }

    /// Makes a Service for the pod of the same name; gives its address.
    pub(crate) async fn service(
        &self,
        name: &str,
        port: u16,
        target: u16,
        protocol: &str,
    ) -> String {
        let service = json!({
            "metadata": {"name": name},
            "spec": {
                "selector": {"app": name},
                "ports": [{"port": port, "targetPort": target, "protocol": protocol}],
            },
        });
        let service: Service = serde_json::from_value(service).unwrap();
        let services = Api::<Service>::default_namespaced(self.client.clone());
        let made = services
            .create(&PostParams::default(), &service)
            .await
            .unwrap();
        made.spec.unwrap().cluster_ip.unwrap()
    }

    /// Makes a claim without naming a class.
    pub(crate) async fn claim(&self, name: &str) {
        let claim = json!({
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        });
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
        let claims = Api::<PersistentVolumeClaim>::default_namespaced(self.client.clone());
        claims.create(&PostParams::default(), &claim).await.unwrap();
    }

    pub(crate) async fn log(&self, name: &str) -> String {
        self.pods.logs(name, &LogParams::default()).await.unwrap()
    }

    async fn create(&self, name: &str, pod: Value) {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let made = self.pods.create(&PostParams::default(), &pod).await;
        made.unwrap_or_else(|error| panic!("could not make the pod {name}: {error}"));
    }

    async fn wait(&self, name: &str, wanted: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let pod = self.pods.get(name).await.unwrap();
            let status = pod.status.unwrap_or_default();
            let phase = status.phase.as_deref().unwrap_or_default();
            if phase == wanted || (wanted == "Running" && phase == "Succeeded") {
                return;
            }
            let late = Instant::now() > end || phase == "Failed";
            assert!(!late, "{name} is not {wanted} but {status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn pod(name: &str, image: &str, command: &[&str], user: i64) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": user, "runAsNonRoot": true},
            "containers": [{
                "name": "main",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": command,
            }],
        },
    })
}
