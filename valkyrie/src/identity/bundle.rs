//! The roots that are trusted for one trust domain.
//! Must not decide about a peer: `verify` does.

use super::{IdentityError, TrustDomain};

/// Trusted roots of one trust domain; several while a root is replaced.
#[derive(Clone)]
pub struct TrustBundle {}

impl TrustBundle {
    /// Reads one or more root certificates.
    ///
    /// # Errors
    /// When the text holds no certificate or one that cannot be a root.
    pub fn from_pem(trust_domain: TrustDomain, pem: &str) -> Result<Self, IdentityError> {
        let _ = (trust_domain, pem);
        todo!()
    }

    /// A bundle that trusts no certificate, for endpoints that only use the memory transport.
    pub fn empty(trust_domain: TrustDomain) -> Self {
        let _ = trust_domain;
        todo!()
    }

    /// All roots in PEM.
    pub fn to_pem(&self) -> String {
        todo!()
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        todo!()
    }
}
