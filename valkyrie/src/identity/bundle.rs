//! The roots that are trusted for one trust domain.
//! Must not decide about a peer: `verify` does.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use super::{IdentityError, TrustDomain, verify};

/// Trusted roots of one trust domain; several while a root is replaced.
#[derive(Clone)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    pem: Arc<str>,
    anchors: Arc<[TrustAnchor<'static>]>,
}

impl TrustBundle {
    /// Reads one or more root certificates.
    ///
    /// # Errors
    /// When the text holds no certificate or one that cannot be a root.
    pub fn from_pem(trust_domain: TrustDomain, pem: &str) -> Result<Self, IdentityError> {
        let bad = |why: String| IdentityError::Pem {
            what: "the trust bundle",
            why,
        };
        let mut anchors = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            if !verify::parse(&certificate)?.is_ca() {
                return Err(bad("it holds a certificate that is no authority".to_owned()));
            }
            let anchor = webpki::anchor_from_trusted_cert(&certificate)
                .map_err(|error| bad(error.to_string()))?;
            anchors.push(anchor.to_owned());
        }
        if anchors.is_empty() {
            return Err(bad("it holds no certificate".to_owned()));
        }
        Ok(Self {
            trust_domain,
            pem: pem.into(),
            anchors: anchors.into(),
        })
    }

    /// A bundle that trusts no certificate, for endpoints that only use the memory transport.
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            pem: "".into(),
            anchors: Arc::new([]),
        }
    }

    /// All roots in PEM.
    pub fn to_pem(&self) -> String {
        self.pem.to_string()
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

impl std::fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustBundle")
            .field("trust_domain", &self.trust_domain)
            .field("roots", &self.anchors.len())
            .finish_non_exhaustive()
    }
}
