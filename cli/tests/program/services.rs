//! A pipeline with services is refused on this machine, before anything runs.
//! Must not need a cluster.

use crate::workspace::Workspace;

const FILE: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: plain}
spec:
  jobs:
    - name: dig
      image: docker.io/library/busybox:1
      steps: [{name: dig, run: echo digging}]
---
apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: served}
spec:
  jobs:
    - name: dig
      image: docker.io/library/busybox:1
      services:
        - {name: well, image: docker.io/library/redis:8}
      steps: [{name: dig, run: echo digging}]
";

#[test]
fn a_job_with_services_is_refused_with_its_place_before_anything_runs() {
    let workspace = Workspace::new();
    workspace.file("served.yaml", FILE);
    let ended = workspace.rustci(&["run", "served.yaml", "--pipeline", "served"]);
    let ended = ended.with_code(2);
    assert!(ended.out.is_empty(), "{}", ended.out);
    for part in [
        "services need a container engine, and local runs have none",
        "served.yaml:17:7: spec.jobs[0].services: the job `dig` has services; start it on a cluster",
        "17 |       services:",
    ] {
        assert!(ended.err.contains(part), "no {part:?} in\n{}", ended.err);
    }
    assert!(!workspace.path().join(".rustci").exists());
}

#[test]
fn another_pipeline_of_the_file_runs() {
    let workspace = Workspace::new();
    workspace.file("served.yaml", FILE);
    let ended = workspace.rustci(&["run", "served.yaml", "--pipeline", "plain"]);
    ended.with_code(0).has("digging");
}
