//! The pipeline of most tests: one job with one step.
//! Must not talk to a cluster.

use serde_json::{Value, json};

/// A step's script that goes on until [`crate::namespace::TestNamespace::let_go`].
pub const UNTIL_LET_GO: &str = "echo started
while [ ! -e /workspace/go ]; do sleep 0.1; done
echo let go";

/// A Pipeline with the job `only`.
#[derive(Clone, Debug)]
pub struct OneJob {
    name: String,
    spec: Value,
}

impl OneJob {
    /// The job runs a script in the small image.
    pub fn new(name: &str, script: &str) -> Self {
        let steps = json!([{"name": "step", "run": script}]);
        let job = json!({"name": "only", "image": "localhost/busybox:1", "steps": steps});
        Self {
            name: name.to_owned(),
            spec: json!({"jobs": [job]}),
        }
    }

    /// Sets a field of the Pipeline's spec.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    /// Sets a field of the job.
    #[must_use]
    pub fn with_job(mut self, field: &str, value: Value) -> Self {
        self.spec["jobs"][0][field] = value;
        self
    }

    /// The manifest, as kubectl takes it.
    pub fn manifest(&self) -> String {
        json!({
            "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
            "kind": "Pipeline",
            "metadata": {"name": self.name},
            "spec": self.spec,
        })
        .to_string()
    }
}
