//! The program as a pod runs it: carrier, install, bootstrap over QUIC, job, renewal, signals.
//! Must not need root, Kubernetes or a network beyond the loopback.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::blocked::{self, Namespace};
use crate::pod::Pod;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner_messages::{EnvEntry, EnvSource, JobKey, Offer, Outcome, StepSpec, termination};
use tokio::process::Child;
use valkyrie::endpoint::{ServerBuilder, TransportKind};

const HOUR: Duration = Duration::from_secs(3600);

fn offer(scripts: &[&str]) -> Offer {
    let steps = scripts.iter().enumerate().map(|(at, script)| StepSpec {
        name: format!("step-{at}"),
        script: (*script).to_owned(),
        ..StepSpec::default()
    });
    Offer {
        job: Some(JobKey {
            namespace: "team".to_owned(),
            run: "build-1".to_owned(),
            run_uid: "uid-1".to_owned(),
            job: "compile".to_owned(),
            attempt: 1,
            fence: 3,
        }),
        steps: steps.collect(),
        ..Offer::default()
    }
}

fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap())
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !pid.trim().is_empty() && !stat.is_empty() && !stat.contains(") Z ")
}

/// Leaves orphans that end at once, then waits until none of them is a zombie any more.
const ORPHANS: &str = "for i in 1 2 3 4 5 6 7 8 9; do (setsid sh -c 'exit 0' &); done\n\
    try=0\n\
    while grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | while read -r file; do\n\
        grep -q \"^PPid:.$PPID$\" \"$file\" 2>/dev/null && echo zombie; done | grep -q zombie\n\
    do sleep 0.05; try=$((try+1)); test $try -lt 200; done\n\
    echo reaped; exit 0";

async fn run_a_whole_pod(before: &[&str]) {
    install_provider();
    let daemon = "(setsid sh -c 'echo $$ > daemon; exec env -i sleep 600' >/dev/null 2>&1 &)\n\
                  while ! test -s daemon; do sleep 0.01; done; echo \"pid $PPID $TOKEN\"";
    let mut offer = offer(&[daemon, ORPHANS, "exit 9"]);
    offer.steps[0].env = vec![EnvEntry {
        name: "TOKEN".to_owned(),
        source: Some(EnvSource::FromAgentEnv("RUSTCI_FROM_0".to_owned())),
        secret: true,
    }];
    let pod = Pod::new(offer, HOUR).await;
    let mut carrier = pod.carrier();
    pod.install().await;
    let mut job = pod.job(before).spawn().unwrap();
    assert!(carrier.wait().await.unwrap().success());
    assert_eq!(job.wait().await.unwrap().code(), Some(1));
    let state = pod.hub.state.lock();
    assert_eq!(state.violations, Vec::<String>::new());
    let result = state.results.last().unwrap();
    assert_eq!(result.outcome(), Outcome::StepFailed, "{}", result.message);
    assert_eq!(result.steps[2].exit_code, Some(9));
    assert!(state.log(0).starts_with("pid ") && state.log(0).ends_with(" ***\n"));
    assert_eq!(state.log(1), "reaped\n");
    assert_eq!(
        termination::decode(&pod.read("termination-log")).as_ref(),
        Some(result)
    );
    if before.is_empty() {
        assert!(
            !alive(&pod.read("work/daemon")),
            "a daemon outlived the job"
        );
    } else {
        assert_eq!(state.log(0), "pid 1 ***\n");
    }
}

#[tokio::test]
async fn a_whole_pod_runs_with_the_agent_as_subreaper() {
    run_a_whole_pod(&[]).await;
}

#[tokio::test]
async fn a_whole_pod_runs_with_the_agent_as_pid_1() {
    let namespace = [
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    let rootful = ["unshare", "--pid", "--fork", "--mount-proc"];
    for before in [&rootful[..], &namespace[..]] {
        let mut probe = tokio::process::Command::new(before[0]);
        if probe
            .args(&before[1..])
            .arg("true")
            .status()
            .await
            .is_ok_and(|end| end.success())
        {
            return run_a_whole_pod(before).await;
        }
    }
    left_out("no PID namespaces here: only the subreaper is tested");
}

/// Says what cannot be tested here; a run of all tests fails then.
fn left_out(what: &str) {
    let all = std::env::var_os("RUSTCI_TEST_ALL").is_some();
    assert!(!all, "{what}");
    tracing::warn!("{what}");
}

#[tokio::test]
async fn an_agent_that_reaches_its_hub_only_by_tcp_does_its_job() {
    install_provider();
    let pod = Pod::reached_by(offer(&["echo over TCP"]), HOUR, ServerBuilder::listen_tcp).await;
    let mut carrier = pod.carrier();
    pod.install().await;
    let mut job = pod.job(&[]).spawn().unwrap();
    assert!(carrier.wait().await.unwrap().success());
    assert!(job.wait().await.unwrap().success());
    let state = pod.hub.state.lock();
    assert_eq!(state.violations, Vec::<String>::new());
    assert_eq!(state.log(0), "over TCP\n");
    assert_eq!(state.results.last().unwrap().outcome(), Outcome::Succeeded);
}

/// A whole pod in a namespace of its own; how many connections each transport has carried.
async fn run_behind(filter: impl FnOnce(&Namespace, &Pod), proxied: bool) -> Option<[u64; 4]> {
    install_provider();
    let Some(namespace) = Namespace::new() else {
        left_out("no network namespaces here (they need ip and iptables)");
        return None;
    };
    let pod = Pod::reached_by(offer(&["echo behind a filter"]), HOUR, |builder, _| {
        let address = namespace.any_port();
        builder.listen_quic(address).listen_tcp(address)
    })
    .await;
    filter(&namespace, &pod);
    let mut carrier = pod.carrier();
    pod.install().await;
    let mut job = pod.job(&namespace.enter());
    if proxied {
        let proxy = blocked::proxy(namespace.any_port()).await;
        job.env("RUSTCI_AGENT_PROXY", proxy.to_string());
    }
    let mut job = job.spawn().unwrap();
    assert!(carrier.wait().await.unwrap().success());
    assert!(job.wait().await.unwrap().success());
    let state = pod.hub.state.lock();
    assert_eq!(state.violations, Vec::<String>::new());
    assert_eq!(state.log(0), "behind a filter\n");
    Some(TransportKind::ALL.map(|kind| pod.carried(kind)))
}

#[tokio::test]
async fn where_a_packet_filter_drops_udp_the_agent_does_its_job_over_tcp() {
    let filter = |namespace: &Namespace, _: &Pod| namespace.drop_packets(&["-p", "udp"]);
    if let Some(carried) = run_behind(filter, false).await {
        // Two connections: one for the certificate, one for the job.
        assert_eq!(carried, [0, 2, 0, 0]);
    }
}

#[tokio::test]
async fn where_only_a_proxy_is_reached_the_agent_does_its_job_over_websocket() {
    let filter = |namespace: &Namespace, pod: &Pod| {
        let port = pod.address().port().to_string();
        namespace.drop_packets(&["-p", "udp"]);
        namespace.drop_packets(&["-p", "tcp", "--dport", &port]);
    };
    if let Some(carried) = run_behind(filter, true).await {
        assert_eq!(carried, [0, 0, 2, 0]);
    }
}

#[tokio::test]
async fn steps_cannot_read_the_agents_environment() {
    install_provider();
    let script = "tr '\\0' '\\n' < /proc/$PPID/environ | grep -c RUSTCI_FROM || true\n\
                  cat /proc/$PPID/mem > /dev/null && echo open\n\
                  env | grep -E 'RUSTCI_(AGENT|FROM)_' || true\n\
                  test -w \"$HOME\" && echo home";
    let pod = Pod::new(
        offer(&[&script.replace("&& echo open\n", "|| echo closed\n")]),
        HOUR,
    )
    .await;
    let _carrier = pod.carrier();
    pod.install().await;
    let mut job = pod.job(&[]).spawn().unwrap();
    assert_eq!(job.wait().await.unwrap().code(), Some(0));
    let log = pod.hub.state.lock().log(0);
    let told: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains("ermission"))
        .collect();
    assert_eq!(told, ["0", "closed", "home"], "{log}");
}

#[tokio::test]
async fn a_refused_token_ends_the_agent_with_a_clear_message() {
    install_provider();
    let pod = Pod::new(offer(&["true"]), HOUR).await;
    std::fs::write(pod.path("token"), "another.audiences.token").unwrap();
    let _carrier = pod.carrier();
    pod.install().await;
    let mut job = pod.job(&[]).spawn().unwrap();
    assert_eq!(job.wait().await.unwrap().code(), Some(2));
    let message = pod.read("termination-log");
    assert!(message.contains("the hub refuses this agent"), "{message}");
    assert!(message.contains("not valid for this audience"), "{message}");
    assert!(!message.contains("another.audiences.token"));
}

#[tokio::test]
async fn a_wrong_configuration_is_told() {
    let pod = Pod::new(offer(&["true"]), HOUR).await;
    let _carrier = pod.carrier();
    pod.install().await;
    let mut job = pod.job(&[]);
    let mut job = job
        .env("RUSTCI_AGENT_HUB_ID", "http://nonsense")
        .spawn()
        .unwrap();
    assert_eq!(job.wait().await.unwrap().code(), Some(2));
    let message = pod.read("termination-log");
    assert!(
        message.contains("RUSTCI_AGENT_HUB_ID is not usable"),
        "{message}"
    );
}

#[tokio::test]
async fn the_certificate_is_renewed_while_the_job_runs() {
    install_provider();
    let script = "while ! test -e go; do sleep 0.02; done; echo done";
    let pod = Pod::new(offer(&[script]), Duration::from_secs(4)).await;
    let _carrier = pod.carrier();
    pod.install().await;
    let mut job = pod.job(&[]).spawn().unwrap();
    while pod.issuing.renewals.load(Ordering::SeqCst) < 2 {
        tokio::select! {
            ended = job.wait() => panic!("the agent ended before a renewal: {ended:?}"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    std::fs::write(pod.path("work/go"), "").unwrap();
    assert_eq!(job.wait().await.unwrap().code(), Some(0));
    let state = pod.hub.state.lock();
    assert_eq!(
        (state.log(0).as_str(), state.violations.len()),
        ("done\n", 0)
    );
}

#[tokio::test]
async fn a_terminated_agent_ends_its_job_and_reports_it() {
    install_provider();
    let pod = Pod::new(offer(&["echo $$ > shell; echo ready; sleep 600"]), HOUR).await;
    let _carrier = pod.carrier();
    pod.install().await;
    let mut job = pod.job(&[]).spawn().unwrap();
    pod.hub.until_said(0, "ready").await;
    kill(pid(&job), Signal::SIGTERM).unwrap();
    assert_eq!(job.wait().await.unwrap().code(), Some(2));
    let state = pod.hub.state.lock();
    assert_eq!(state.results.last().unwrap().outcome(), Outcome::Setup);
    assert!(!alive(&pod.read("work/shell")));
}

#[tokio::test]
async fn a_terminated_carrier_ends_at_once() {
    let pod = Pod::new(offer(&["true"]), HOUR).await;
    let mut carrier = pod.carrier();
    pod.install().await;
    kill(pid(&carrier), Signal::SIGTERM).unwrap();
    assert!(carrier.wait().await.unwrap().success());
}
