//! Where an endpoint's identity comes from, the first time and each time after it.
//! Must not interrupt anything: a newer identity counts for new handshakes, and connections go
//! over by themselves (see [`crate::session::Age`]).
//!
//! A [`Bootstrap`] is one source: a token that is exchanged ([`ByToken`]: a projected
//! service-account token, or a join token made by [`JoinTokens`]), files ([`Files`]), or the
//! SPIFFE Workload API (`WorkloadApi`, feature `spiffe`). [`first`] gets an identity,
//! [`keep_fresh`] replaces it for as long as it is polled.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//! use valkyrie::bootstrap::{self, Files, Renewals};
//!
//! # async fn example() -> Result<(), valkyrie::bootstrap::BootstrapError> {
//! let files = Files::new("/tls/tls.crt", "/tls/tls.key", "/tls/ca.crt");
//! let store = bootstrap::first(&files, Duration::from_secs(60)).await?;
//! let renewals = Arc::new(Renewals::default());
//! tokio::spawn({
//!     let store = store.clone();
//!     async move { bootstrap::keep_fresh(&files, &store, &renewals).await }
//! });
//! // `store` is what a `Server` or a `Dialer` is built with.
//! # Ok(()) }
//! ```

mod files;
mod join;
mod messages;
mod token;
#[cfg(feature = "spiffe")]
mod workload;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use thiserror::Error;

pub use files::Files;
pub use join::{JoinDesk, JoinEntry, JoinRefusal, JoinToken, JoinTokens, TokensFull};
pub use messages::{IssueReply, IssueRequest, RenewRequest};
pub use token::{ByToken, Methods, TokenFile, TokenSource};
#[cfg(feature = "spiffe")]
pub use workload::WorkloadApi;

use crate::error::{CallError, Code};
use crate::identity::{Credentials, IdentityError, IdentityStore, TrustBundle};
use crate::metrics::Counter;
use crate::session::Backoff;

/// First and largest wait between two attempts.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// An identity as a source gives it.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Whom to show.
    pub credentials: Credentials,
    /// Whom to trust.
    pub bundle: TrustBundle,
}

/// A source of identities.
#[async_trait]
pub trait Bootstrap: Send + Sync {
    /// One word for logs.
    fn name(&self) -> &'static str;

    /// Tries once to get the first identity; the caller tries again.
    async fn first(&self) -> Result<Issued, BootstrapError>;

    /// Waits until the identity in `store` is to be replaced, then tries once to get the next one.
    /// After an error the caller waits a moment and calls it again; what is due then comes at once.
    async fn next(&self, store: &IdentityStore) -> Result<Issued, BootstrapError>;
}

/// Why there is no identity. The text never holds a token or a key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// Whoever issues identities says no, for good.
    #[error("no identity is issued: {0}")]
    Refused(CallError),
    /// Whoever issues identities was not reached, or is not ready.
    #[error("no identity can be had now: {0}")]
    Unreachable(CallError),
    /// Something local cannot be read.
    #[error("cannot read {what}: {why}")]
    Source {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// What came cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl BootstrapError {
    /// Whether trying again is of no use.
    pub fn is_final(&self) -> bool {
        matches!(self, BootstrapError::Refused(_))
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            BootstrapError::Unreachable(error) => error.retry_after,
            _ => None,
        }
    }
}

impl From<CallError> for BootstrapError {
    fn from(error: CallError) -> Self {
        let refused = matches!(
            error.code,
            Code::Unauthenticated
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::Unimplemented
        );
        match refused && !error.retryable {
            true => BootstrapError::Refused(error),
            false => BootstrapError::Unreachable(error),
        }
    }
}

/// How renewals went.
#[derive(Debug, Default)]
pub struct Renewals {
    /// Identities that were replaced.
    pub renewed: Counter,
    /// Attempts that failed; the identity before stays in use.
    pub failed: Counter,
}

/// Gets the first identity, trying until `patience` is over.
///
/// # Errors
/// When it is refused, or the last failure when none came in time.
pub async fn first(
    source: &dyn Bootstrap,
    patience: Duration,
) -> Result<IdentityStore, BootstrapError> {
    let deadline = Instant::now() + patience;
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    loop {
        let error = match tokio::time::timeout_at(deadline.into(), source.first()).await {
            Ok(Ok(issued)) => return Ok(IdentityStore::new(issued.credentials, issued.bundle)),
            Ok(Err(error)) => error,
            Err(_) => {
                let late = CallError::new(Code::DeadlineExceeded, "nothing came in time");
                return Err(BootstrapError::Unreachable(late));
            }
        };
        let wait = backoff.next(rand::random(), error.retry_after());
        if error.is_final() || Instant::now() + wait >= deadline {
            return Err(error);
        }
        tracing::info!(source = source.name(), %error, "no identity yet; trying again");
        tokio::time::sleep(wait).await;
    }
}

/// Replaces the identity whenever the source has a newer one, for as long as it is polled. What
/// fails is counted, and the identity before stays in use.
pub async fn keep_fresh(source: &dyn Bootstrap, store: &IdentityStore, renewals: &Renewals) {
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    loop {
        match source.next(store).await {
            Ok(issued) => {
                // Trust first: peers may show certificates of the new root at once.
                store.replace_bundle(issued.bundle);
                store.replace_credentials(issued.credentials);
                renewals.renewed.add(1);
                backoff.reset();
            }
            Err(error) => {
                renewals.failed.add(1);
                let source = source.name();
                tracing::warn!(source, %error, "the identity was not renewed; trying again");
                tokio::time::sleep(backoff.next(rand::random(), error.retry_after())).await;
            }
        }
    }
}
