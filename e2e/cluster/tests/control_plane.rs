//! etcd and kube-apiserver alone: they serve, keep apart, and end with their user.
//! It must not need root.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster::ControlPlane;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

/// Set for the process that holds a control plane until it is killed.
const HOLD: &str = "RUSTCI_TEST_HOLD";

fn processes_naming(dir: &str) -> usize {
    let lines = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&line).into_owned())
        });
    lines.filter(|line| line.contains(dir)).count()
}

fn wait_until_gone(dir: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    while processes_naming(dir) > 0 || std::path::Path::new(dir).exists() {
        assert!(
            Instant::now() < end,
            "{} processes of {dir} are left",
            processes_naming(dir)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn two_serve_side_by_side_and_end_when_dropped() {
    let (one, two) = tokio::try_join!(ControlPlane::start(), ControlPlane::start()).unwrap();
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "zebra"}})).unwrap();
    let maps = Api::<ConfigMap>::default_namespaced(one.client().await.unwrap());
    maps.create(&PostParams::default(), &map).await.unwrap();
    let others = Api::<ConfigMap>::default_namespaced(two.client().await.unwrap());
    assert!(others.get_opt("zebra").await.unwrap().is_none());
    let dirs = [&one, &two].map(|plane| plane.kubeconfig().parent().unwrap().to_owned());
    drop((one, two));
    for dir in dirs {
        wait_until_gone(dir.to_str().unwrap());
    }
}

#[tokio::test]
async fn a_pod_can_be_made_without_controllers() {
    let plane = ControlPlane::shared().await.unwrap();
    let again = ControlPlane::shared().await.unwrap();
    assert_eq!(plane.kubeconfig(), again.kubeconfig());
    let pod = json!({
        "metadata": {"name": "zebra"},
        "spec": {"containers": [{"name": "main", "image": "localhost/zebra:1"}]},
    });
    let pods = Api::<Pod>::default_namespaced(plane.client().await.unwrap());
    let pod: Pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
}

#[test]
fn a_killed_test_process_leaves_no_server() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "holder_of_a_control_plane_when_told",
            "--nocapture",
        ])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let held = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("held ").map(str::to_owned));
    let dir = held.expect("the holder ended before its servers were up");
    assert!(processes_naming(&dir) >= 2);
    // SIGKILL: nothing in the process can react.
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until_gone(&dir);
}

/// Not a test of its own: the process that is killed in the test above.
#[tokio::test]
async fn holder_of_a_control_plane_when_told() {
    if std::env::var_os(HOLD).is_some() {
        let plane = ControlPlane::start().await.unwrap();
        let dir = plane.kubeconfig().parent().unwrap();
        writeln!(std::io::stdout(), "\nheld {}", dir.display()).unwrap();
        std::future::pending::<()>().await;
    }
}
