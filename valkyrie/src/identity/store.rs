//! The identity an endpoint shows, trusts and denies, replaceable while it runs.
//! Must not touch open connections: a new certificate counts for new handshakes only, and those
//! who hold connections watch for peers that are denied.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{Clock, Credentials, DenyList, TrustBundle};
#[cfg(feature = "net")]
use super::{Denial, Leaf, SpiffeId};

/// Credentials, trusted roots and denied peers in one handle; every clone sees a replacement at
/// once.
#[derive(Clone, Debug)]
pub struct IdentityStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    current: RwLock<Current>,
    clock: Clock,
    /// Bumped after each change of what is denied.
    #[cfg(feature = "net")]
    denials: tokio::sync::watch::Sender<()>,
}

#[derive(Debug)]
struct Current {
    credentials: Option<Credentials>,
    bundle: TrustBundle,
    denied: Arc<DenyList>,
}

impl IdentityStore {
    /// Trusts others and shows no certificate.
    pub fn anonymous(bundle: TrustBundle) -> Self {
        Self::with(None, bundle, Clock::system())
    }

    /// Shows these credentials and trusts this bundle.
    pub fn new(credentials: Credentials, bundle: TrustBundle) -> Self {
        Self::with(Some(credentials), bundle, Clock::system())
    }

    /// The same by another clock, for tests that let certificates age.
    pub fn with(credentials: Option<Credentials>, bundle: TrustBundle, clock: Clock) -> Self {
        let current = Current {
            credentials,
            bundle,
            denied: Arc::default(),
        };
        Self {
            inner: Arc::new(Inner {
                current: RwLock::new(current),
                clock,
                #[cfg(feature = "net")]
                denials: tokio::sync::watch::Sender::new(()),
            }),
        }
    }

    /// Shows other credentials from the next handshake on.
    pub fn replace_credentials(&self, credentials: Credentials) {
        self.inner.current.write().credentials = Some(credentials);
    }

    /// Trusts another bundle from the next handshake on.
    pub fn replace_bundle(&self, bundle: TrustBundle) {
        self.inner.current.write().bundle = bundle;
    }

    /// Denies these peers from now on, and no others: their connections are closed
    /// (`CloseCode::Denied`), their sessions end, and they cannot connect again.
    pub fn replace_denied(&self, denied: DenyList) {
        self.inner.current.write().denied = Arc::new(denied);
        #[cfg(feature = "net")]
        self.inner.denials.send_replace(());
    }

    /// What it shows now.
    pub fn credentials(&self) -> Option<Credentials> {
        self.inner.current.read().credentials.clone()
    }

    /// What it trusts now.
    pub fn bundle(&self) -> TrustBundle {
        self.inner.current.read().bundle.clone()
    }

    /// Whom it denies now.
    pub fn denied(&self) -> Arc<DenyList> {
        self.inner.current.read().denied.clone()
    }

    /// The time by which certificates count here.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Tells of each change of what is denied from now on.
    #[cfg(feature = "net")]
    pub(crate) fn denials(&self) -> tokio::sync::watch::Receiver<()> {
        self.inner.denials.subscribe()
    }

    /// Returns when this peer is denied.
    #[cfg(feature = "net")]
    pub(crate) async fn until_denied(&self, id: Option<&SpiffeId>, leaf: Option<&Leaf>) -> Denial {
        let mut changes = self.denials();
        loop {
            if let Some(denial) = self.denied().denies(id, leaf) {
                return denial;
            }
            // An error would mean that the sender is gone, which `self` holds.
            let _ = changes.changed().await;
        }
    }
}
