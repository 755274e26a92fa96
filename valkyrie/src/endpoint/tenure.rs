//! How long one connection may go on: until a certificate of either side ends, or the peer is
//! denied.
//! Must not close it: its server or driver does, with the code that is given here.

use std::future::pending;
use std::time::{Duration, SystemTime};

use super::{CallError, Code};
use crate::identity::{Denial, IdentityStore};
use crate::metrics::Refusal;
use crate::session::Age;
use crate::transport::Remote;
use crate::wire::CloseCode;

/// What a connection stands on.
#[derive(Clone)]
pub(super) struct Tenure {
    identity: IdentityStore,
    pub(super) remote: Remote,
    age: Age,
}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// A certificate has ended.
    Expired,
    /// The peer is denied.
    Denied(Denial),
}

impl Over {
    pub(super) fn code(self) -> CloseCode {
        match self {
            Over::Expired => CloseCode::Expired,
            Over::Denied(_) => CloseCode::Denied,
        }
    }

    pub(super) fn refusal(self) -> Refusal {
        match self {
            Over::Expired => Refusal::Expired,
            Over::Denied(_) => Refusal::Denied,
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Over::Expired => "a certificate or its grace has ended",
            // By which entry is for this side's log, not for the peer.
            Over::Denied(_) => "this peer is denied",
        }
    }
}

impl Tenure {
    /// A connection that begins now. `own` is when the certificate ends that this side showed; it
    /// counts only against a peer that has shown one too.
    pub(super) fn new(identity: &IdentityStore, own: Option<SystemTime>, remote: Remote) -> Self {
        let own = own.filter(|_| remote.leaf.is_some());
        let age = Age::new(
            identity.clock().now(),
            own.into_iter().chain(remote.expires()),
        );
        Self {
            identity: identity.clone(),
            remote,
            age,
        }
    }

    /// Fails when the peer is denied already.
    pub(super) fn check(&self) -> Result<(), Over> {
        let Remote { id, leaf } = &self.remote;
        let denial = self.identity.denied().denies(id.as_ref(), leaf.as_ref());
        denial.map_or(Ok(()), |denial| Err(Over::Denied(denial)))
    }

    /// Returns when the connection must end.
    pub(super) async fn over(&self) -> Over {
        let Remote { id, leaf } = &self.remote;
        tokio::select! {
            denial = self.identity.until_denied(id.as_ref(), leaf.as_ref()) => Over::Denied(denial),
            () = self.until(self.age.end()) => Over::Expired,
        }
    }

    /// Returns when a newer connection is to be made beside this one.
    pub(super) async fn rotation(&self, jitter: f64) {
        self.until(self.age.rotate_at(jitter)).await;
    }

    /// Returns when the peer is to be told of the end, with what is left until then.
    pub(super) async fn notice(&self) -> Duration {
        self.until(self.age.notice_at()).await;
        let end = self.age.end().unwrap_or(SystemTime::UNIX_EPOCH);
        let left = end.duration_since(self.identity.clock().now());
        left.unwrap_or_default()
    }

    async fn until(&self, at: Option<SystemTime>) {
        match at {
            Some(at) => self.identity.clock().until(at).await,
            None => pending().await,
        }
    }
}

/// What the dialing side hears when either side denies the other.
pub(super) fn denied(detail: &str) -> CallError {
    CallError::new(Code::PermissionDenied, detail)
}
