//! Our certificate authority: one self-signed root that issues short-lived certificates.
//! Must not store keys: the caller keeps the PEM.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;

use super::{IdentityError, SpiffeId, TrustDomain};

/// A root certificate with its key, for one trust domain.
pub struct Authority {}

impl Authority {
    /// Makes a new root.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn generate(
        trust_domain: TrustDomain,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Self, IdentityError> {
        let _ = (trust_domain, now, lifetime);
        todo!()
    }

    /// Reads a root back from its certificate and key in PEM.
    ///
    /// # Errors
    /// When either cannot be read, they do not belong together, or it is not a root of ours.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let _ = (certificate, key);
        todo!()
    }

    /// The certificate and the key in PEM; the second is the secret of the whole installation.
    pub fn to_pem(&self) -> (String, String) {
        todo!()
    }

    /// The root certificate in PEM, for a `TrustBundle`.
    pub fn root_pem(&self) -> String {
        todo!()
    }

    /// The trust domain it issues for.
    pub fn trust_domain(&self) -> &TrustDomain {
        todo!()
    }

    /// When the root itself ends.
    pub fn expires_at(&self) -> SystemTime {
        todo!()
    }

    /// Issues a certificate for the key of a signing request (DER). Nothing of the request but
    /// its public key is used. Returns the chain, leaf first, without the root.
    ///
    /// # Errors
    /// When the request is not signed by its own key or the id is outside the trust domain.
    pub fn issue(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        dns: &[String],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        let _ = (csr_der, id, dns, now, lifetime);
        todo!()
    }
}
