//! The identity an endpoint shows and trusts, replaceable while it runs.
//! Must not touch open connections: a change counts for new handshakes only.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{Credentials, TrustBundle};

/// Credentials and trusted roots in one handle; every clone sees a replacement at once.
#[derive(Clone, Debug)]
pub struct IdentityStore {
    current: Arc<RwLock<Current>>,
}

#[derive(Debug)]
struct Current {
    credentials: Option<Credentials>,
    bundle: TrustBundle,
}

impl IdentityStore {
    /// Trusts others and shows no certificate.
    pub fn anonymous(bundle: TrustBundle) -> Self {
        Self {
            current: Arc::new(RwLock::new(Current {
                credentials: None,
                bundle,
            })),
        }
    }

    /// Shows these credentials and trusts this bundle.
    pub fn new(credentials: Credentials, bundle: TrustBundle) -> Self {
        let current = Current {
            credentials: Some(credentials),
            bundle,
        };
        Self {
            current: Arc::new(RwLock::new(current)),
        }
    }

    /// Shows other credentials from the next handshake on.
    pub fn replace_credentials(&self, credentials: Credentials) {
        self.current.write().credentials = Some(credentials);
    }

    /// Trusts another bundle from the next handshake on.
    pub fn replace_bundle(&self, bundle: TrustBundle) {
        self.current.write().bundle = bundle;
    }

    /// What it shows now.
    pub fn credentials(&self) -> Option<Credentials> {
        self.current.read().credentials.clone()
    }

    /// What it trusts now.
    pub fn bundle(&self) -> TrustBundle {
        self.current.read().bundle.clone()
    }
}
