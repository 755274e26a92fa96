//! Peers that must not get in: real QUIC against the hub of the operator in the cluster.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use crds::JobState;
use e2e::agent::{audience, hub_of, token};
use e2e::cluster::from_environment;
use e2e::namespace::{TestNamespace, job};
use e2e::pipeline::{OneJob, UNTIL_LET_GO};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::PostParams;
use prost::Message;
use quinn::crypto::rustls::QuicClientConfig;
use runner::identity::{BootstrapError, HubPlace, bootstrap};
use runner_messages::{JobKey, JobResult, LogOpen, Outcome, Progress, method};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use valkyrie::bootstrap::{IssueRequest, RenewRequest};
use valkyrie::endpoint::{CallError, CallOptions, Class, Code, Dialer, Method, Session};
use valkyrie::identity::{Authority, IdentityStore, SpiffeId, TrustBundle};

const LIMIT: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// TLS alert `no_application_protocol`, RFC 7301.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A job that runs while intruders try their luck.
struct Victim {
    namespace: Arc<TestNamespace>,
    hub: HubPlace,
    pod: Pod,
    key: JobKey,
}

impl Victim {
    async fn start(namespace: Arc<TestNamespace>) -> Result<Self> {
        // A given cluster's hub may not be within reach of this machine.
        from_environment("RUSTCI_E2E_HOST_IP")?;
        let pipeline = OneJob::new("victim", UNTIL_LET_GO);
        namespace.apply(&pipeline.manifest()).await?;
        let (name, pod) = namespace.running("victim", "only", LIMIT).await?;
        let run: crds::PipelineRun = namespace.api().get(&name).await?;
        let only = job(&run, "only")?;
        let key = JobKey {
            namespace: namespace.name.clone(),
            run_uid: run.uid().unwrap_or_default(),
            run: name,
            job: "only".to_owned(),
            attempt: only.attempt,
            fence: only.fence,
        };
        let pod: Pod = namespace.api().get(&pod).await?;
        Ok(Self {
            hub: hub_of(&pod)?,
            namespace,
            pod,
            key,
        })
    }

    /// Runs a test beside the job, which must end as if nothing had been.
    async fn with<F, T>(name: &str, test: T) -> Result<()>
    where
        T: FnOnce(Arc<Self>) -> F + Send + 'static,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        TestNamespace::with(name, |namespace| async move {
            let victim = Arc::new(Self::start(namespace).await?);
            test(victim.clone()).await?;
            victim.namespace.let_go(&victim.pod.name_any()).await?;
            let run = victim.namespace.ended(&victim.key.run, LIMIT).await?;
            let only = job(&run, "only")?;
            ensure!(only.state == JobState::Succeeded, "{only:#?}");
            ensure!(only.attempt == victim.key.attempt, "{only:#?}");
            Ok(())
        })
        .await
    }

    fn id(&self) -> Result<SpiffeId> {
        let uid = self.pod.uid().unwrap_or_default();
        let path = format!("ns/{}/agent/{uid}", self.namespace.name);
        Ok(self.hub.id.trust_domain().member(&path)?)
    }

    fn bundle(&self) -> Result<TrustBundle> {
        let domain = self.hub.id.trust_domain().clone();
        Ok(TrustBundle::from_pem(domain, &self.hub.bundle_pem)?)
    }

    async fn dial(&self, identity: IdentityStore) -> Result<Session, CallError> {
        let dialer = Dialer::builder(identity).quic(self.hub.address);
        let dialer = dialer.expect_peer(self.hub.id.clone());
        dialer.connect(SHORT).await
    }

    /// What the hub answers to every attempt to speak for the job.
    async fn codes(&self, session: &Session) -> Result<[Code; 3]> {
        let job = Some(self.key.clone());
        let progress = Progress {
            job: job.clone(),
            steps: Vec::new(),
        };
        let result = JobResult {
            job: job.clone(),
            outcome: Outcome::Succeeded.into(),
            ..JobResult::default()
        };
        let log = LogOpen { job, step_index: 0 };
        Ok([
            refusal(session, method::JOB_PROGRESS, progress.encode_to_vec()).await?,
            refusal(session, method::JOB_RESULT, result.encode_to_vec()).await?,
            stream_refusal(session, method::LOG_APPEND, log.encode_to_vec()).await?,
        ])
    }

    /// What a token is worth to the hub.
    async fn refuses(&self, token: &str) -> Result<Code> {
        match bootstrap(&self.hub, token, SHORT).await {
            Err(BootstrapError::Refused(error)) => Ok(error.code),
            Err(other) => Err(other.into()),
            Ok(_) => bail!("the hub gave a certificate"),
        }
    }
}

async fn refusal(session: &Session, number: u32, body: Vec<u8>) -> Result<Code> {
    let options = CallOptions::new(SHORT);
    match session.call(Method(number), body.into(), options).await {
        Err(error) => Ok(error.code),
        Ok(_) => bail!("the hub answered method {number}"),
    }
}

async fn stream_refusal(session: &Session, number: u32, head: Vec<u8>) -> Result<Code> {
    let opened = session.open(Method(number), Bytes::from(head), Class::Log);
    let (_tx, mut rx) = match opened.await {
        Ok(halves) => halves,
        Err(error) => return Ok(error.code),
    };
    match tokio::time::timeout(SHORT, rx.recv()).await? {
        Err(error) => Ok(error.code),
        Ok(_) => bail!("the hub took stream {number}"),
    }
}

#[tokio::test]
async fn without_a_certificate_a_peer_can_only_ask_for_one() -> Result<()> {
    Victim::with("anonymous", |victim| async move {
        let session = victim
            .dial(IdentityStore::anonymous(victim.bundle()?))
            .await?;
        let codes = victim.codes(&session).await?;
        ensure!(codes == [Code::Unauthenticated; 3], "{codes:?}");
        let renew = RenewRequest { csr_der: vec![7] };
        let renewed = refusal(&session, method::IDENTITY_RENEW, renew.encode_to_vec()).await?;
        ensure!(renewed == Code::Unauthenticated, "{renewed:?}");
        // The one method that is open to it; the API server does not know this token.
        let issue = IssueRequest {
            token: "no-token".to_owned(),
            csr_der: vec![7],
        };
        let issued = refusal(&session, method::IDENTITY_ISSUE, issue.encode_to_vec()).await?;
        ensure!(issued == Code::Unauthenticated, "{issued:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_is_refused() -> Result<()> {
    Victim::with("foreign", |victim| async move {
        let now = SystemTime::now();
        let domain = victim.hub.id.trust_domain().clone();
        let foreign = Authority::generate(domain, now, HOUR)?;
        let credentials = foreign.credentials(&victim.id()?, &[], now, HOUR)?;
        let identity = IdentityStore::new(credentials, victim.bundle()?);
        let Err(error) = victim.dial(identity).await else {
            bail!("the hub took a foreign certificate");
        };
        ensure!(error.code == Code::Unauthenticated, "{error}");
        Ok(())
    })
    .await
}

/// How a TLS client that trusts the hub's authority fares with a protocol's name.
async fn offer(hub: &HubPlace, protocol: &[u8]) -> Result<quinn::ConnectionError> {
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(hub.bundle_pem.as_bytes()) {
        roots.add(root?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let connecting = endpoint.connect_with(config, hub.address, "hub.invalid")?;
    let connected = tokio::time::timeout(SHORT, connecting).await?;
    connected.err().context("the connection was made")
}

#[tokio::test]
async fn another_protocol_is_refused_in_the_handshake() -> Result<()> {
    Victim::with("alpn", |victim| async move {
        let alert = quinn::TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL);
        let refused = offer(&victim.hub, b"h3").await?;
        let quinn::ConnectionError::ConnectionClosed(close) = &refused else {
            bail!("the hub did not refuse: {refused}");
        };
        ensure!(close.error_code == alert, "{refused}");
        // With the right name it is this client that ends the handshake: no hub has that name.
        let own = offer(&victim.hub, valkyrie::ALPN).await?;
        let by_client = matches!(&own, quinn::ConnectionError::TransportError(error)
            if error.code != alert);
        ensure!(by_client, "{own}");
        Ok(())
    })
    .await
}

/// A pod in the job's namespace that the operator did not make.
async fn bystander(namespace: &TestNamespace) -> Result<Pod> {
    let pod = serde_json::from_value(json!({"metadata": {"name": "bystander"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "localhost/busybox:1", "command": ["true"],
            "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}}}]}}))?;
    Ok(namespace.api().create(&PostParams::default(), &pod).await?)
}

#[tokio::test]
async fn a_token_is_worth_only_what_its_pod_is() -> Result<()> {
    Victim::with("token", |victim| async move {
        let namespace = &victim.namespace;
        let audience = audience(&victim.hub);
        let foreign = bystander(namespace).await?;
        let foreign = token(namespace, &foreign, &audience).await?;
        let code = victim.refuses(&foreign).await?;
        ensure!(code == Code::PermissionDenied, "{code:?}");
        let api = "https://kubernetes.default.svc";
        let api_token = token(namespace, &victim.pod, api).await?;
        let code = victim.refuses(&api_token).await?;
        ensure!(code == Code::Unauthenticated, "{code:?}");
        // The token of another job's pod is good for that job's identity, and for nothing else.
        let (_, other) = namespace.running("victim", "only", LIMIT).await?;
        let other: Pod = namespace.api().get(&other).await?;
        let other_token = token(namespace, &other, &audience).await?;
        let store = bootstrap(&victim.hub, &other_token, SHORT).await?;
        let credentials = store.credentials().context("no certificate")?;
        ensure!(*credentials.id() != victim.id()?, "{credentials:?}");
        let codes = victim.codes(&victim.dial(store).await?).await?;
        ensure!(codes == [Code::PermissionDenied; 3], "{codes:?}");
        Ok(())
    })
    .await
}
