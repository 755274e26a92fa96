//! An identity for a token: first over TLS that only the server proves itself in, later ones over
//! mutual TLS by the identity before.
//! Must not keep a token longer than one attempt takes.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;

use super::{Bootstrap, BootstrapError, IssueReply, IssueRequest, Issued, JoinToken, RenewRequest};
use crate::endpoint::{CallOptions, DialerBuilder, Session};
use crate::error::{CallError, Code};
use crate::identity::{CertificateDer, IdentityStore, KeyRequest, TrustBundle};
use crate::wire::{Class, Method};

const CALL: Duration = Duration::from_secs(10);
/// However short certificates live, the issuer is not asked more often.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// Longest token that is read.
const MAX_TOKEN: usize = 64 * 1024;

/// Gives the token of the moment.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// Reads or fetches it.
    async fn token(&self) -> Result<String, BootstrapError>;
}

/// A token in a file, read anew for each attempt: the kubelet replaces projected service-account
/// tokens before they end.
#[derive(Clone, Debug)]
pub struct TokenFile(pub PathBuf);

#[async_trait]
impl TokenSource for TokenFile {
    async fn token(&self) -> Result<String, BootstrapError> {
        let failed = |why: String| BootstrapError::Source {
            what: format!("the token {}", self.0.display()),
            why,
        };
        let read = std::fs::read(&self.0).map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8(read).unwrap_or_default();
        match text.trim() {
            token if !token.is_empty() && token.len() <= MAX_TOKEN => Ok(token.to_owned()),
            _ => Err(failed("it holds no token".to_owned())),
        }
    }
}

#[async_trait]
impl TokenSource for JoinToken {
    async fn token(&self) -> Result<String, BootstrapError> {
        Ok(self.reveal().to_owned())
    }
}

/// The methods by which the server issues certificates; the application has the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods {
    /// [`IssueRequest`] to [`IssueReply`], from a peer without a certificate.
    pub issue: Method,
    /// [`RenewRequest`] to [`IssueReply`], from a peer with one.
    pub renew: Method,
}

/// Exchanges a token for an identity, and renews it by itself after two thirds of its life. When
/// its certificate has ended before it was renewed, it begins again with a token.
pub struct ByToken {
    tokens: Box<dyn TokenSource>,
    methods: Methods,
    dialer: DialerBuilder,
    bundle: TrustBundle,
    renews_over: Mutex<Option<Session>>,
}

impl ByToken {
    /// Asks the server that `dialer` leads to, whose certificate `bundle` must vouch for. What
    /// identity the dialer has does not matter.
    pub fn new(
        tokens: impl TokenSource + 'static,
        methods: Methods,
        dialer: DialerBuilder,
        bundle: TrustBundle,
    ) -> Self {
        Self {
            tokens: Box::new(tokens),
            methods,
            dialer,
            bundle,
            renews_over: Mutex::default(),
        }
    }

    /// Renews over this session from now on instead of dialing each time.
    pub fn renew_over(&self, session: Session) {
        *self.renews_over.lock() = Some(session);
    }

    async fn issue(&self, bundle: &TrustBundle) -> Result<Issued, BootstrapError> {
        let key = KeyRequest::generate()?;
        let request = IssueRequest {
            token: self.tokens.token().await?,
            csr_der: key.csr_der().to_vec(),
        };
        let session = self.dial(IdentityStore::anonymous(bundle.clone())).await?;
        let reply = call(&session, self.methods.issue, &request).await;
        session.close("the certificate is issued");
        accept(key, reply?, bundle)
    }

    async fn renew(&self, store: &IdentityStore) -> Result<Issued, BootstrapError> {
        let key = KeyRequest::generate()?;
        let request = RenewRequest {
            csr_der: key.csr_der().to_vec(),
        };
        let given = self.renews_over.lock().clone();
        let reply = match given {
            Some(session) => call(&session, self.methods.renew, &request).await,
            None => {
                let session = self.dial(store.clone()).await?;
                let reply = call(&session, self.methods.renew, &request).await;
                session.close("the certificate is renewed");
                reply
            }
        };
        accept(key, reply?, &store.bundle())
    }

    async fn dial(&self, identity: IdentityStore) -> Result<Session, CallError> {
        self.dialer.clone().identity(identity).connect(CALL).await
    }
}

#[async_trait]
impl Bootstrap for ByToken {
    fn name(&self) -> &'static str {
        "token"
    }

    async fn first(&self) -> Result<Issued, BootstrapError> {
        self.issue(&self.bundle).await
    }

    async fn next(&self, store: &IdentityStore) -> Result<Issued, BootstrapError> {
        let Some(present) = store.credentials() else {
            return self.issue(&store.bundle()).await;
        };
        let clock = store.clock();
        let soonest = clock.now() + SHORTEST_LIFE;
        clock.until(present.renew_at().max(soonest)).await;
        if clock.now() >= present.expires_at() {
            return self.issue(&store.bundle()).await;
        }
        self.renew(store).await
    }
}

async fn call(
    session: &Session,
    method: Method,
    request: &impl Message,
) -> Result<IssueReply, CallError> {
    let options = CallOptions::new(CALL).idempotent().class(Class::Control);
    let body = Bytes::from(request.encode_to_vec());
    let reply = session.call(method, body, options).await?;
    IssueReply::decode(reply).map_err(|error| CallError::new(Code::Internal, error.to_string()))
}

fn accept(
    key: KeyRequest,
    reply: IssueReply,
    present: &TrustBundle,
) -> Result<Issued, BootstrapError> {
    let chain = reply.chain_der.into_iter().map(CertificateDer::from);
    let bundle = match reply.bundle_pem.as_str() {
        "" => present.clone(),
        pem => TrustBundle::from_pem(present.trust_domain().clone(), pem)?,
    };
    Ok(Issued {
        credentials: key.into_credentials(chain.collect())?,
        bundle,
    })
}
