//! Starts and stops the cluster of this machine: each server in order, recorded as it starts.
//! It must not be called without holding the change lock, which its public functions take.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::Client;

use crate::binaries::{self, Binaries};
use crate::cache::Lock;
use crate::pki::{Pki, Subject};
use crate::process::{self, PidRecord};
use crate::ready::{self, Server};
use crate::servers::{self, Ports, free_ports};
use crate::state::{Layout, State};
use crate::{containers, images, network, node, packages, seed, teardown};

/// True while processes may exist that no finished `up` answers for.
static STARTING: AtomicBool = AtomicBool::new(false);

/// Starts the cluster, or takes the one that runs and is healthy. A kept cluster stays kept, and
/// a scoped one becomes kept when asked for unscoped. Returns the path of kubectl.
pub(crate) async fn up(layout: &Layout, scoped: bool) -> Result<PathBuf> {
    let (binaries, runtime, _lock) = {
        let path = layout.change_lock();
        blocking(move || {
            packages_and_root()?;
            let runtime = binaries::containerd()?;
            let binaries = binaries::kubernetes()?;
            Ok((binaries, runtime, Lock::exclusive(&path)?))
        })
        .await?
    };
    if let Some(mut state) = healthy(layout).await {
        if state.scoped && !scoped {
            state.scoped = false;
            state.save(layout)?;
        }
        seed::refresh(&ready::client(&layout.kubeconfig()).await?, layout).await?;
        return Ok(binaries.path("kubectl"));
    }
    teardown::run(layout)?;
    STARTING.store(true, Ordering::SeqCst);
    let programs = Programs {
        kubernetes: &binaries,
        containerd: &runtime,
    };
    let started = start(layout, programs, scoped).await;
    if started.is_err() {
        // What failed is in the error; a failure to clean up after it would hide it.
        let _ = teardown::run(layout);
    }
    STARTING.store(false, Ordering::SeqCst);
    started.map(|()| binaries.path("kubectl"))
}

/// Stops everything.
pub(crate) fn down(layout: &Layout) -> Result<()> {
    let _lock = Lock::exclusive(&layout.change_lock())?;
    teardown::run(layout)
}

/// Stops everything if it was brought up by a scope. To be called by the last user.
pub(crate) fn down_if_scoped(layout: &Layout) -> Result<()> {
    let _lock = Lock::exclusive(&layout.change_lock())?;
    match State::load(layout)? {
        Some(state) if state.scoped => teardown::run(layout),
        _ => Ok(()),
    }
}

/// Waits for a start under way in this process, which fails by itself when interrupted and then
/// cleans up.
pub(crate) fn await_start(layout: &Layout) -> Result<()> {
    if STARTING.load(Ordering::SeqCst) {
        drop(Lock::exclusive(&layout.change_lock())?);
    }
    Ok(())
}

/// The state of a cluster of which every part runs and answers.
pub(crate) async fn healthy(layout: &Layout) -> Option<State> {
    let state = State::load(layout).ok()??;
    let alive = state.ready && state.processes.iter().all(PidRecord::runs);
    if !alive || !ready::answers(&layout.kubeconfig()).await {
        return None;
    }
    let client = ready::client(&layout.kubeconfig()).await.ok()?;
    ready::node_ready(&client).await.then_some(state)
}

/// Runs something long without holding up the caller's other tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("a background task panicked")?
}

fn packages_and_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "a cluster with a node needs root on this machine; run as root, or set \
             RUSTCI_TEST_KUBECONFIG to the kubeconfig of another cluster"
        );
    }
    packages::ensure()
}

async fn start(layout: &Layout, programs: Programs<'_>, scoped: bool) -> Result<()> {
    std::fs::create_dir_all(layout.path("logs"))?;
    let ports = Ports::free()?;
    let mut starter = Starter {
        layout,
        programs,
        state: State::new(scoped),
    };
    starter.state.save(layout)?;
    containers::use_client(&programs.containerd.path("ctr"), layout)?;
    network::up()?;
    let pki = certificates(layout, ports)?;
    let containerd = starter.start("containerd", node::containerd(layout)?)?;
    let etcd = starter.start("etcd", servers::etcd(&layout.path("etcd"), ports))?;
    let address = ("127.0.0.1", ports.etcd);
    starter
        .wait("etcd listens", &etcd, || async move {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await?;
    let flags = servers::apiserver(&pki, ports, Some(network::NODE_IP));
    let apiserver = starter.start("kube-apiserver", flags)?;
    starter
        .wait("containerd answers", &containerd, || async {
            containers::answers().await
        })
        .await?;
    blocking(|| {
        containers::remove_all()?;
        containers::import(&images::pause()?)?;
        containers::import(&images::busybox()?)
    })
    .await?;
    let client = ready::client(&layout.kubeconfig()).await?;
    starter
        .wait("the API server is ready", &apiserver, || {
            ready::api_ready(&client)
        })
        .await?;
    start_node(&mut starter, &pki, &client).await?;
    seed::refresh(&client, layout).await?;
    starter.state.ready = true;
    starter.state.save(layout)
}

async fn start_node(starter: &mut Starter<'_>, pki: &Pki, client: &Client) -> Result<()> {
    let layout = starter.layout;
    let [
        manager_port,
        scheduler_port,
        kubelet_port,
        health,
        proxy_health,
        metrics,
    ] = free_ports()?;
    let kubelet = node::kubelet(layout, network::NODE_IP, [kubelet_port, health])?;
    let kubelet = starter.start("kubelet", kubelet)?;
    let config = layout.path("kube-controller-manager.kubeconfig");
    let manager = servers::controller_manager(pki, &config, manager_port);
    let manager = starter.start("kube-controller-manager", manager)?;
    let config = layout.path("kube-scheduler.kubeconfig");
    starter.start(
        "kube-scheduler",
        servers::scheduler(&config, scheduler_port),
    )?;
    starter.start("kube-proxy", node::proxy(layout, [proxy_health, metrics])?)?;
    starter
        .wait("the node is ready", &kubelet, || ready::node_ready(client))
        .await?;
    starter
        .wait("the default service account exists", &manager, || {
            ready::default_account(client)
        })
        .await
}

fn certificates(layout: &Layout, ports: Ports) -> Result<Pki> {
    let pki = Pki::create(&layout.path("pki"))?;
    let ca = servers::issue_certificates(&pki, network::NODE_IP)?;
    pki.issue(
        &ca,
        &Subject {
            file: "node",
            common_name: &format!("system:node:{}", node::NAME),
            organization: Some("system:nodes"),
            hosts: &[node::NAME, &network::NODE_IP.to_string(), "127.0.0.1"],
        },
    )?;
    let server = format!("https://127.0.0.1:{}", ports.api);
    pki.write_kubeconfig("admin", &server, &layout.kubeconfig())?;
    for user in [
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "node",
    ] {
        pki.write_kubeconfig(user, &server, &layout.path(&format!("{user}.kubeconfig")))?;
    }
    Ok(pki)
}

/// What the cluster is started from.
#[derive(Clone, Copy)]
struct Programs<'a> {
    kubernetes: &'a Binaries,
    containerd: &'a Binaries,
}

struct Starter<'a> {
    layout: &'a Layout,
    programs: Programs<'a>,
    state: State,
}

impl Starter<'_> {
    /// Starts one server and records it before anything else happens.
    fn start(&mut self, name: &str, arguments: Vec<String>) -> Result<PidRecord> {
        let program = match name {
            "containerd" => self.programs.containerd.path(name),
            _ => self.programs.kubernetes.path(name),
        };
        let record = process::start(name, &program, &arguments, &self.layout.log(name))?;
        self.state.processes.push(record.clone());
        self.state.save(self.layout)?;
        Ok(record)
    }

    async fn wait<F: Future<Output = bool>>(
        &self,
        what: &str,
        record: &PidRecord,
        check: impl FnMut() -> F,
    ) -> Result<()> {
        let log = self.layout.log(&record.name);
        let server = Server { record, log: &log };
        ready::until(what, server, Duration::from_secs(60), check).await
    }
}
