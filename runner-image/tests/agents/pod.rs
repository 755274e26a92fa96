//! A pod without Kubernetes: carrier and job as processes of the real program, a hub over QUIC.
//! Must not end a process that it did not start.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use runner_messages::{Offer, method};
use tokio::process::{Child, Command};
use valkyrie::bootstrap::{IssueReply, IssueRequest, RenewRequest};
use valkyrie::endpoint::{
    CallContext, CallError, Code, Handler, Method, Peer, Rx, Server, ServerBuilder, Session,
    TransportKind, Tx,
};
use valkyrie::identity::{
    Authority, IdentityStore, KeyRequest, SpiffeId, TrustBundle, TrustDomain,
};

use crate::test_hub::{HubHandler, TestHub};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rustci-agent");
const AGENT: &str = "spiffe://test.example/ns/team/agent/pod-uid-1";
const OPERATOR: &str = "spiffe://test.example/operator";
const TOKEN: &str = "header.payload.signature";
/// A user without rights, so that what is tested is what a pod's user can do.
const NOBODY: u32 = 65534;

/// Issues certificates for the one token, and passes everything else on.
pub(crate) struct Issuing {
    authority: Authority,
    lifetime: Duration,
    pub(crate) renewals: AtomicU32,
    hub: HubHandler,
}

impl Issuing {
    fn issue(&self, csr_der: &[u8]) -> Bytes {
        let id = SpiffeId::parse(AGENT).unwrap();
        let now = SystemTime::now();
        let chain = self
            .authority
            .issue(csr_der, &id, &[], now, self.lifetime)
            .unwrap();
        let reply = IssueReply {
            chain_der: chain.iter().map(|der| der.to_vec()).collect(),
            bundle_pem: self.authority.root_pem(),
        };
        reply.encode_to_vec().into()
    }
}

#[async_trait]
impl Handler for Issuing {
    async fn up(&self, session: Session) -> Result<(), CallError> {
        match session.peer() {
            Peer::Anonymous => Ok(()),
            Peer::Spiffe(id) if id.to_string() == AGENT => self.hub.up(session).await,
            Peer::Spiffe(_) => Err(CallError::new(Code::PermissionDenied, "a stranger")),
        }
    }

    async fn call(
        &self,
        context: CallContext,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        match (&context.peer, method.0) {
            (Peer::Anonymous, method::IDENTITY_ISSUE) => {
                let request = IssueRequest::decode(body).unwrap();
                if request.token != TOKEN {
                    let detail = "the token is not valid for this audience";
                    return Err(CallError::new(Code::Unauthenticated, detail));
                }
                Ok(self.issue(&request.csr_der))
            }
            (Peer::Spiffe(_), method::IDENTITY_RENEW) => {
                self.renewals.fetch_add(1, Ordering::SeqCst);
                Ok(self.issue(&RenewRequest::decode(body).unwrap().csr_der))
            }
            _ => self.hub.call(context, method, body).await,
        }
    }

    async fn stream(
        &self,
        context: CallContext,
        method: Method,
        head: Bytes,
        tx: Tx,
        rx: Rx,
    ) -> Result<(), CallError> {
        self.hub.stream(context, method, head, tx, rx).await
    }
}

/// The directories and the hub of one pod.
pub(crate) struct Pod {
    dir: tempfile::TempDir,
    pub(crate) hub: Arc<TestHub>,
    pub(crate) issuing: Arc<Issuing>,
    server: Server,
    root_pem: String,
}

impl Pod {
    pub(crate) async fn new(offer: Offer, lifetime: Duration) -> Self {
        Self::reached_by(offer, lifetime, ServerBuilder::listen_quic).await
    }

    /// A pod from which the hub is reached as `listen` says.
    pub(crate) async fn reached_by(
        offer: Offer,
        lifetime: Duration,
        listen: impl FnOnce(ServerBuilder, SocketAddr) -> ServerBuilder,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let domain = TrustDomain::parse("test.example").unwrap();
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 3600);
        let authority = Authority::generate(domain.clone(), now, day).unwrap();
        let root_pem = authority.root_pem();
        let key = KeyRequest::generate().unwrap();
        let operator = SpiffeId::parse(OPERATOR).unwrap();
        let chain = authority
            .issue(key.csr_der(), &operator, &[], now, day)
            .unwrap();
        let bundle = TrustBundle::from_pem(domain, &root_pem).unwrap();
        let store = IdentityStore::new(key.into_credentials(chain).unwrap(), bundle);
        let hub = TestHub::new(offer);
        let issuing = Arc::new(Issuing {
            authority,
            lifetime,
            renewals: AtomicU32::new(0),
            hub: HubHandler(Arc::clone(&hub)),
        });
        let address = "127.0.0.1:0".parse().unwrap();
        let server = listen(Server::builder(store, issuing.clone()), address);
        let server = server.start().await;
        let pod = Self {
            dir,
            hub,
            issuing,
            server: server.unwrap(),
            root_pem,
        };
        for name in ["", "rustci", "work"] {
            let path = pod.path(name);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        for (name, content) in [("token", TOKEN), ("termination-log", "")] {
            std::fs::write(pod.path(name), content).unwrap();
            let mode = PermissionsExt::from_mode(0o666);
            std::fs::set_permissions(pod.path(name), mode).unwrap();
        }
        pod
    }

    /// Where the hub listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.server.local_addr().or(self.server.tcp_addr());
        address.unwrap()
    }

    /// How many connections this transport has carried.
    pub(crate) fn carried(&self, kind: TransportKind) -> u64 {
        self.server.metrics().won(kind).value()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.stdin(Stdio::null()).kill_on_drop(true);
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts the carrier.
    pub(crate) fn carrier(&self) -> Child {
        let mut carrier = Self::command(PROGRAM);
        carrier
            .arg("carrier")
            .arg("--socket")
            .arg(self.path("rustci/token.sock"));
        carrier
            .arg("--token")
            .arg(self.path("token"))
            .spawn()
            .unwrap()
    }

    /// Runs the hook that copies the program.
    pub(crate) async fn install(&self) {
        let mut install = Self::command(PROGRAM);
        install.arg("install").arg(self.path("rustci/agent"));
        install.arg("--socket").arg(self.path("rustci/token.sock"));
        assert!(install.status().await.unwrap().success());
    }

    /// The copied agent, as the kubelet would start it; `before` stands in front of it.
    pub(crate) fn job(&self, before: &[&str]) -> Command {
        let agent = self.path("rustci/agent");
        let mut job = match before.split_first() {
            Some((program, arguments)) => {
                let mut job = Command::new(program);
                job.args(arguments)
                    .arg(agent)
                    .stdin(Stdio::null())
                    .kill_on_drop(true);
                job
            }
            None => Self::command(agent),
        };
        job.arg("job")
            .current_dir(self.path("work"))
            .env("RUSTCI_AGENT_HUB", self.address().to_string())
            .env("RUSTCI_AGENT_HUB_ID", OPERATOR)
            .env("RUSTCI_AGENT_CA", &self.root_pem)
            .env("RUSTCI_AGENT_SOCKET", self.path("rustci/token.sock"))
            .env("RUSTCI_AGENT_TERMINATION_LOG", self.path("termination-log"))
            .env("RUSTCI_FROM_0", "hunter22")
            .env("HOME", "/");
        job
    }
}
