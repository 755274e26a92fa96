//! A server that issues certificates for join tokens and echoes streams.
//! Must not know the sources.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use valkyrie::bootstrap::{IssueReply, JoinDesk, Methods};
use valkyrie::endpoint::{
    CallContext, CallError, Class, Code, Dialer, DialerBuilder, Handler, Method, Peer, Rx, Server,
    Session, Tx,
};
use valkyrie::identity::{Authority, Clock, IdentityStore, SpiffeId, TrustBundle, TrustDomain};
use valkyrie::metrics::Counter;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const METHODS: Methods = Methods {
    issue: Method(1),
    renew: Method(2),
};
const ECHO: Method = Method(10);

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(60), future).await;
    waited.unwrap_or_else(|_| panic!("waited for {what}"))
}

pub(crate) async fn counted(what: &str, counter: &Counter, least: u64) {
    in_time(what, async {
        while counter.value() < least {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) struct Stage {
    pub(crate) authority: Arc<Authority>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) clock: Clock,
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let clock = Clock::fixed(SystemTime::now());
        let domain = TrustDomain::parse("join.example").unwrap();
        let authority = Authority::generate(domain, clock.now(), 48 * HOUR).unwrap();
        let authority = Arc::new(authority);
        let desk = Arc::new(Desk {
            desk: JoinDesk::new(authority.clone(), HOUR, 16),
            clock: clock.clone(),
            issued: Counter::default(),
            renewed: Counter::default(),
            ups: Mutex::default(),
        });
        let id = authority.trust_domain().member("operator").unwrap();
        let own = authority.credentials(&id, &[], clock.now(), 40 * HOUR);
        let bundle = desk.desk.bundle().unwrap();
        let identity = IdentityStore::with(Some(own.unwrap()), bundle, clock.clone());
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::builder(identity, desk.clone());
        let server = server.listen_quic(local).start().await.unwrap();
        Self {
            address: server.local_addr().unwrap(),
            authority,
            desk,
            clock,
            server,
        }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        self.desk.desk.bundle().unwrap()
    }

    pub(crate) fn id(&self, path: &str) -> SpiffeId {
        self.authority.trust_domain().member(path).unwrap()
    }

    pub(crate) fn dialer(&self) -> DialerBuilder {
        let nobody = IdentityStore::anonymous(self.bundle());
        let dialer = Dialer::builder(nobody).quic(self.address);
        dialer.expect_peer(self.id("operator"))
    }

    pub(crate) async fn dial(&self, identity: &IdentityStore) -> Session {
        let dialer = self.dialer().identity(identity.clone());
        dialer.connect(Duration::from_secs(50)).await.unwrap()
    }

    /// Whom the server has seen last.
    pub(crate) fn last(&self) -> Peer {
        self.desk.ups.lock().last().cloned().unwrap()
    }
}

pub(crate) struct Desk {
    pub(crate) desk: JoinDesk,
    pub(crate) clock: Clock,
    pub(crate) issued: Counter,
    pub(crate) renewed: Counter,
    pub(crate) ups: Mutex<Vec<Peer>>,
}

#[async_trait]
impl Handler for Desk {
    async fn up(&self, session: Session) -> Result<(), CallError> {
        self.ups.lock().push(session.peer().clone());
        Ok(())
    }

    async fn call(
        &self,
        context: CallContext,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let bad = |_| CallError::new(Code::InvalidArgument, "no such message");
        let now = self.clock.now();
        let reply: IssueReply = match (&context.peer, method) {
            (Peer::Anonymous, method) if method == METHODS.issue => {
                self.issued.add(1);
                let request = valkyrie::bootstrap::IssueRequest::decode(body).map_err(bad)?;
                self.desk.issue(&request, now)?
            }
            (Peer::Spiffe(peer), method) if method == METHODS.renew => {
                self.renewed.add(1);
                let request = valkyrie::bootstrap::RenewRequest::decode(body).map_err(bad)?;
                self.desk.renew(peer, &request, now)?
            }
            _ => return Err(CallError::new(Code::PermissionDenied, "not you")),
        };
        Ok(reply.encode_to_vec().into())
    }

    async fn stream(
        &self,
        _: CallContext,
        _: Method,
        head: Bytes,
        mut tx: Tx,
        mut rx: Rx,
    ) -> Result<(), CallError> {
        tx.send(head).await?;
        while let Some(message) = rx.recv().await? {
            tx.send(message).await?;
        }
        tx.finish().await
    }
}

/// A stream that must not break.
pub(crate) struct Stream(Tx, Rx);

impl Stream {
    pub(crate) async fn open(session: &Session) -> Self {
        let opened = session.open(ECHO, Bytes::new(), Class::Log).await;
        let (tx, mut rx) = opened.unwrap();
        rx.recv().await.unwrap();
        Self(tx, rx)
    }

    pub(crate) async fn goes_on(&mut self) {
        self.0.send(Bytes::from_static(b"line")).await.unwrap();
        let line = in_time("the line", self.1.recv()).await.unwrap();
        assert_eq!(line.unwrap(), "line");
    }
}
