//! Waits until a server, a node or an object is there, and says why when it is not.
//! It must not wait for a fixed time.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::process::{PidRecord, log_tail};
use crate::signals;

const PAUSE: Duration = Duration::from_millis(25);

/// A process that must live for the thing waited for to come, and its log.
#[derive(Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) record: &'a PidRecord,
    pub(crate) log: &'a Path,
}

/// Asks again and again until `check` gives true. Fails at once when the server ends or the user
/// interrupts, and with the end of the server's log after `limit`.
pub(crate) async fn until<F>(
    what: &str,
    server: Server<'_>,
    limit: Duration,
    mut check: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = bool>,
{
    let end = Instant::now() + limit;
    loop {
        // An answer that never comes must not outlast the limit.
        if tokio::time::timeout(Duration::from_secs(2), check()).await == Ok(true) {
            return Ok(());
        }
        let name = &server.record.name;
        if !server.record.runs() {
            bail!("{name} ended before {what}; {}", log_tail(server.log));
        }
        if signals::interrupted() {
            bail!("interrupted while waiting: {what}");
        }
        if Instant::now() > end {
            bail!(
                "{what}: not within {} s; {name}: {}",
                limit.as_secs(),
                log_tail(server.log)
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A client for the user of a kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    // Fails only when a provider is installed already, and any provider will do.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let shown = kubeconfig.display();
    let file = Kubeconfig::read_from(kubeconfig).with_context(|| format!("reading {shown}"))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("reading {shown}"))?;
    Client::try_from(config).with_context(|| format!("a client for {shown}"))
}

/// Whether the API server calls itself ready: status 200, since the body of a negative answer
/// contains "ok" as well.
pub(crate) async fn api_ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new());
    match request {
        Ok(request) => client.request_text(request).await.is_ok(),
        Err(_) => false,
    }
}

/// Whether the API server answers as ready within two seconds.
pub(crate) async fn answers(kubeconfig: &Path) -> bool {
    let Ok(client) = client(kubeconfig).await else {
        return false;
    };
    tokio::time::timeout(Duration::from_secs(2), api_ready(&client)).await == Ok(true)
}

/// Whether a node takes pods.
pub(crate) async fn node_ready(client: &Client) -> bool {
    let nodes = Api::<Node>::all(client.clone())
        .list(&Default::default())
        .await;
    let ready = |node: &Node| {
        let conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let mut conditions = conditions.map(|condition| (&*condition.type_, &*condition.status));
        let tainted = node
            .spec
            .iter()
            .any(|spec| spec.taints.iter().flatten().next().is_some());
        conditions.any(|condition| condition == ("Ready", "True")) && !tainted
    };
    nodes.is_ok_and(|nodes| nodes.items.iter().any(ready))
}

/// Whether pods can be made in the default namespace.
pub(crate) async fn default_account(client: &Client) -> bool {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    matches!(accounts.get_opt("default").await, Ok(Some(_)))
}
