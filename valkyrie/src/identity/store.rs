//! The identity an endpoint shows and trusts, replaceable while it runs.
//! Must not touch open connections: a change counts for new handshakes only.

use super::{Credentials, TrustBundle};

/// Credentials and trusted roots in one handle; every clone sees a replacement at once.
#[derive(Clone)]
pub struct IdentityStore {}

impl IdentityStore {
    /// Trusts others and shows no certificate.
    pub fn anonymous(bundle: TrustBundle) -> Self {
        let _ = bundle;
        todo!()
    }

    /// Shows these credentials and trusts this bundle.
    pub fn new(credentials: Credentials, bundle: TrustBundle) -> Self {
        let _ = (credentials, bundle);
        todo!()
    }

    /// Shows other credentials from the next handshake on.
    pub fn replace_credentials(&self, credentials: Credentials) {
        let _ = credentials;
        todo!()
    }

    /// Trusts another bundle from the next handshake on.
    pub fn replace_bundle(&self, bundle: TrustBundle) {
        let _ = bundle;
        todo!()
    }

    /// What it shows now.
    pub fn credentials(&self) -> Option<Credentials> {
        todo!()
    }

    /// What it trusts now.
    pub fn bundle(&self) -> TrustBundle {
        todo!()
    }
}
