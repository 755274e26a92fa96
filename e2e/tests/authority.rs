//! Another authority takes over while a job runs: the job goes on, and later agents belong to it.
//! A file of its own, since the other tests share the operator.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use crds::JobState;
use e2e::agent::{audience, dial, hub_of, issue, token};
use e2e::in_cluster::job_log;
use e2e::namespace::{TestNamespace, job};
use e2e::operator::{self, SYSTEM};
use e2e::patience::until;
use e2e::pipeline::{OneJob, UNTIL_LET_GO};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, Patch, PatchParams};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use valkyrie::identity::Authority;

const LIMIT: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(86_400);
const SECRET: &str = "rustci-authority";

/// The Secret that the operator keeps its authority in.
struct Keeper(Api<Secret>);

impl Keeper {
    async fn text(&self, key: &str) -> Result<Option<String>> {
        let data = self.0.get(SECRET).await?.data.unwrap_or_default();
        let value = data.get(key).map(|value| value.0.clone());
        Ok(value.map(String::from_utf8).transpose()?)
    }

    async fn write(&self, texts: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"stringData": texts}));
        self.0
            .patch(SECRET, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}

/// True when the certificate is one that this root alone vouches for.
fn is_of(certificate: &[u8], root_pem: &str) -> Result<bool> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    let certificate = CertificateDer::from(certificate.to_vec());
    let verified = verifier.verify_client_cert(&certificate, &[], UnixTime::now());
    Ok(verified.is_ok())
}

/// Starts a run whose job waits; gives the run's name and the job's pod.
async fn start(namespace: &TestNamespace) -> Result<(String, Pod)> {
    let (run, pod) = namespace.running("outlives", "only", LIMIT).await?;
    Ok((run, namespace.api().get(&pod).await?))
}

#[tokio::test]
async fn a_job_outlives_the_authority_that_it_began_under() -> Result<()> {
    TestNamespace::with("authority", |namespace| async move {
        let pipeline = OneJob::new("outlives", UNTIL_LET_GO);
        namespace.apply(&pipeline.manifest()).await?;
        let keeper = Keeper(Api::namespaced(namespace.client.clone(), SYSTEM));
        let old = keeper.text("ca.crt").await?.context("no authority")?;
        let (_, pod) = start(&namespace).await?;
        let hub = hub_of(&pod)?;
        let probe = token(&namespace, &pod, &audience(&hub)).await?;

        // Everybody learns of the next root before it signs anything.
        let made = SystemTime::now() - 40 * DAY;
        let next = Authority::generate(hub.id.trust_domain().clone(), made, 365 * DAY)?;
        let (certificate, key) = next.to_pem();
        let previous = keeper.text("previous.crt").await?.unwrap_or_default();
        let roots = json!({"previous.crt": format!("{previous}\n{certificate}")});
        keeper.write(roots).await?;
        until("agents are told of the next root", LIMIT, || async {
            let told = issue(&hub, &probe).await?;
            Ok(told.bundle_pem.contains(certificate.trim()))
        })
        .await?;
        let (run, pod) = start(&namespace).await?;
        ensure!(hub_of(&pod)?.bundle_pem.contains(certificate.trim()));

        // It is known for longer than a twelfth of its life, so it takes over.
        keeper
            .write(json!({"next.crt": certificate, "next.key": key}))
            .await?;
        let shown = "the hub shows a certificate of the next authority";
        until(shown, LIMIT, || async {
            Ok(dial(&hub, &certificate).await.is_ok())
        })
        .await?;
        ensure!(keeper.text("ca.crt").await?.as_deref() == Some(&*certificate));
        ensure!(keeper.text("previous.crt").await?.as_deref() == Some(&*old));

        // The agent has to connect anew, with its old certificate, to a hub with a new one.
        let dead = operator::crash()?;
        namespace
            .let_go(pod.metadata.name.as_deref().unwrap_or_default())
            .await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        operator::is_replaced(dead)?;
        let only = job(&ended, "only")?;
        ensure!(
            only.state == JobState::Succeeded && only.attempt == 1,
            "{only:#?}"
        );
        ensure!(job_log(&namespace, &run, "only").await? == b"started\nlet go\n");

        let (_, pod) = start(&namespace).await?;
        let hub = hub_of(&pod)?;
        let later = issue(&hub, &token(&namespace, &pod, &audience(&hub)).await?).await?;
        let leaf = later.chain_der.first().context("no certificate")?;
        ensure!(is_of(leaf, &certificate)? && !is_of(leaf, &old)?);
        Ok(())
    })
    .await
}
