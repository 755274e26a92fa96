//! The machine's cluster from start to end: pods, logs, Services, volumes, and nothing left after.
//! It must not skip anything: where it cannot run, it fails.

#![allow(clippy::unwrap_used)]

mod full {
    pub(crate) mod left;
    pub(crate) mod pods;
}

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster::{Cluster, Kind, images};
use full::left::{Pids, assert_nothing_left};
use full::pods::Pods;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Mutex;

/// The tests of this file start and stop the one cluster of the machine, one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Set for the process that holds the cluster until it is ended.
const HOLD: &str = "RUSTCI_TEST_HOLD";

/// Takes a cluster that somebody keeps out of the way; says whether it must come back.
async fn put_away() -> bool {
    let before = Cluster::status().await.unwrap();
    assert_eq!(
        before.kind,
        Kind::Own,
        "this test is about the cluster made on this machine"
    );
    let kept = before.healthy && !before.scoped;
    if kept {
        // Alone, so that nobody who uses it is disturbed.
        let alone = Cluster::up_alone().await.unwrap();
        Cluster::down().await.unwrap();
        drop(alone);
    }
    kept
}

async fn bring_back(kept: bool) {
    if kept {
        Cluster::up().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_logs_services_and_volumes_work_and_down_leaves_nothing() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let kept = put_away().await;
    let cluster = Cluster::up_alone().await.unwrap();
    let pids = Pids::now().await;
    let pods = Pods::new(&cluster).await;

    // A second start takes the same processes.
    let kubectl = cluster.kubectl().to_owned();
    let again = Cluster::status().await.unwrap();
    assert!(again.healthy);
    assert_eq!(Pids::now().await, pids);

    pods.run(
        "echo",
        images::BUSYBOX,
        &["sh", "-c", "echo striped $(id -u)"],
        1000,
    )
    .await;
    let log = Command::new(kubectl)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(["logs", "echo"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&log.stdout), "striped 1000\n");

    tcp_service(&pods).await;
    udp_service(&cluster, &pods).await;
    host(&cluster, &pods).await;
    volume(&pods).await;

    // The servers of the two Services still run: `down` has to end them.
    Cluster::down().await.unwrap();
    assert_nothing_left(&pids);
    Cluster::down().await.unwrap();
    drop(cluster);
    bring_back(kept).await;
}

async fn tcp_service(pods: &Pods) {
    let serve = "echo zebra > /tmp/page; exec httpd -f -p 8080 -h /tmp";
    pods.start("web", images::BUSYBOX, &["sh", "-c", serve], 1000)
        .await;
    let ip = pods.service("web", 80, 8080, "TCP").await;
    let ask = format!("for i in $(seq 50); do wget -qO- http://{ip}/page && exit; sleep 0.2; done");
    pods.run("web-client", images::BUSYBOX, &["sh", "-c", &ask], 1000)
        .await;
    assert_eq!(pods.log("web-client").await, "zebra\n");
}

async fn udp_service(cluster: &Cluster, pods: &Pods) {
    let dir = tempfile::tempdir().unwrap();
    let tar = udp_image(dir.path());
    cluster.load_image(&tar).await.unwrap();
    cluster.load_image(&tar).await.unwrap();
    let image = "localhost/udp-zebra:1";
    pods.start("udp", image, &["/udp-zebra", "serve", "9000"], 65532)
        .await;
    let ip = pods.service("udp", 9001, 9000, "UDP").await;
    let ask = ["/udp-zebra", "ask", &ip, "9001", "stripes"];
    pods.run("udp-client", image, &ask, 65532).await;
    assert_eq!(pods.log("udp-client").await, "answer stripes\n");
}

fn udp_image(dir: &Path) -> PathBuf {
    let program = dir.join("udp-zebra");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/full/udp.c");
    let compiled = Command::new("gcc")
        .args(["-static", "-o"])
        .arg(&program)
        .arg(source)
        .status()
        .unwrap();
    assert!(compiled.success());
    images::image_from_binary("localhost/udp-zebra:1", &program, &[], &[]).unwrap()
}

/// A server on this machine, as an operator in a developer's shell would be, is reached by pods.
async fn host(cluster: &Cluster, pods: &Pods) {
    let ip = cluster.host_ip().unwrap();
    let listener = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ask = format!("nc {ip} {port} </dev/null || nc -w 5 {ip} {port}; true");
    let client = ["sh", "-c", &ask];
    let (accepted, ()) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(30), listener.accept()),
        pods.start("host-client", images::BUSYBOX, &client, 1000),
    );
    let (_, from) = accepted.expect("no pod came").unwrap();
    assert!(from.ip().to_string().starts_with("10.244.0."), "{from}");
}

async fn volume(pods: &Pods) {
    pods.claim("data").await;
    let write = ["sh", "-c", "echo kept > /data/file && cat /data/file"];
    pods.run_with_claim("writer", "data", &write).await;
    assert_eq!(pods.log("writer").await, "kept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_its_users_the_cluster_can_be_ended_and_started() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let kept = put_away().await;

    // SIGTERM: the user takes the cluster down before it ends.
    let mut holder = Holder::start();
    holder.wait_until_up();
    let pids = Pids::now().await;
    assert_eq!(holder.end(Signal::SIGTERM), Some(143));
    assert_nothing_left(&pids);

    // SIGKILL in the middle of the start: the next user clears up and starts anew.
    let mut holder = Holder::start();
    let end = Instant::now() + Duration::from_secs(60);
    let half = loop {
        let pids = Pids::now().await;
        if pids.len() >= 3 {
            break pids;
        }
        assert!(
            Instant::now() < end,
            "the start did not come to its third process"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(holder.end(Signal::SIGKILL), None);
    assert!(!Cluster::status().await.unwrap().healthy);

    // A panic: the cluster ends with the unwinding.
    let panicking = tokio::spawn(async move {
        let cluster = Cluster::up_scoped().await.unwrap();
        half.assert_ended();
        let pids = Pids::now().await;
        assert!(cluster.kubeconfig().exists());
        std::panic::panic_any(pids);
    });
    let panic = panicking.await.unwrap_err().into_panic();
    let pids = panic
        .downcast::<Pids>()
        .unwrap_or_else(|other| std::panic::resume_unwind(other));
    assert_nothing_left(&pids);
    bring_back(kept).await;
}

/// Not a test of its own: the process that holds the cluster in the test above.
#[tokio::test(flavor = "multi_thread")]
async fn holder_of_the_cluster_when_told_by_the_environment() {
    if std::env::var_os(HOLD).is_some() {
        let _cluster = Cluster::up_scoped().await.unwrap();
        writeln!(std::io::stdout(), "\nheld").unwrap();
        std::future::pending::<()>().await;
    }
}

struct Holder(Child);

impl Holder {
    fn start() -> Holder {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "holder_of_the_cluster_when_told_by_the_environment",
            ])
            .arg("--nocapture")
            .env(HOLD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Holder(child)
    }

    fn wait_until_up(&mut self) {
        let lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let held = lines.map_while(Result::ok).any(|line| line == "held");
        assert!(held, "the holder ended before the cluster was up");
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
