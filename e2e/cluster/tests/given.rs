//! A cluster that somebody named is used and left alone.
//! It must not need root, nor start a cluster with a node.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use cluster::{Cluster, ControlPlane, Kind};

/// Set for the process that uses the cluster of its environment.
const USE: &str = "RUSTCI_TEST_USE";

/// Runs the user below with a kubeconfig in the given variable and a cache of its own.
fn use_cluster(variable: &str, kubeconfig: &Path, load: Option<&str>) -> Output {
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "user_of_the_cluster_when_told", "--nocapture"])
        .env_remove("KUBECONFIG")
        .env_remove("RUSTCI_TEST_LOAD_IMAGE")
        .env("RUSTCI_CACHE", cache.path())
        .env(USE, "1")
        .env(variable, kubeconfig);
    if let Some(load) = load {
        command.env("RUSTCI_TEST_LOAD_IMAGE", load);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[tokio::test]
async fn a_named_cluster_that_answers_is_used_and_outlives_its_user() {
    let plane = ControlPlane::start().await.unwrap();
    for variable in ["RUSTCI_TEST_KUBECONFIG", "KUBECONFIG"] {
        let used = use_cluster(variable, plane.kubeconfig(), Some("echo loading"));
        assert!(used.status.success(), "{}", said(&used));
        let client = plane.client().await.unwrap();
        client.apiserver_version().await.unwrap();
    }
}

#[tokio::test]
async fn a_named_cluster_that_takes_no_images_says_what_to_set() {
    let plane = ControlPlane::start().await.unwrap();
    let used = use_cluster("RUSTCI_TEST_KUBECONFIG", plane.kubeconfig(), None);
    assert!(!used.status.success());
    let said = said(&used);
    assert!(
        said.contains("set RUSTCI_TEST_LOAD_IMAGE to a command that does"),
        "{said}"
    );
}

#[test]
fn a_cluster_named_for_the_tests_must_answer() {
    let nowhere = Path::new("/nonexistent/kubeconfig");
    let used = use_cluster("RUSTCI_TEST_KUBECONFIG", nowhere, None);
    assert!(!used.status.success());
    let said = said(&used);
    assert!(
        said.contains("RUSTCI_TEST_KUBECONFIG=/nonexistent/kubeconfig does not answer"),
        "{said}"
    );
}

/// Not a test of its own: the process that uses the cluster in the tests above.
#[tokio::test]
async fn user_of_the_cluster_when_told() {
    if std::env::var_os(USE).is_some() {
        let cluster = Cluster::up_scoped().await.unwrap();
        assert_eq!(cluster.kind(), Kind::Given);
        assert_eq!(Cluster::status().await.unwrap().kind, Kind::Given);
        cluster.load_image(Path::new("tern.tar")).await.unwrap();
    }
}
