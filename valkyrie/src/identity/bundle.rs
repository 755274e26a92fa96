//! The roots that are trusted for one trust domain.
//! Must not decide about a peer: `verify` does.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let roots = roots.map_err(|error| bad(error.to_string()))?;
        Ok(Self {
            trust_domain,
            pem: pem.into(),
            anchors: anchors(&roots)?,
        })
    }

    /// The same from DER.
    ///
    /// # Errors
    /// As [`TrustBundle::from_pem`].
    pub fn from_der(
        trust_domain: TrustDomain,
        roots: &[CertificateDer<'_>],
    ) -> Result<Self, IdentityError> {
        let anchors = anchors(roots)?;
        let pem: String = roots.iter().map(|root| to_pem(root)).collect();
        Ok(Self {
            trust_domain,
            pem: pem.into(),
            anchors,
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

fn bad(why: String) -> IdentityError {
    IdentityError::Pem {
        what: "the trust bundle",
        why,
    }
}

fn anchors(roots: &[CertificateDer<'_>]) -> Result<Arc<[TrustAnchor<'static>]>, IdentityError> {
    if roots.is_empty() {
        return Err(bad("it holds no certificate".to_owned()));
    }
    let anchor = |root: &CertificateDer<'_>| {
        if !verify::parse(root)?.is_ca() {
            return Err(bad("it holds a certificate that is no authority".to_owned()));
        }
        let anchor = webpki::anchor_from_trusted_cert(root);
        Ok(anchor.map_err(|error| bad(error.to_string()))?.to_owned())
    };
    roots.iter().map(anchor).collect()
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let lines: String = text
        .as_bytes()
        .chunks(64)
        .flat_map(|line| line.iter().map(|byte| char::from(*byte)).chain(['\n']))
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

impl std::fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustBundle")
            .field("trust_domain", &self.trust_domain)
            .field("roots", &self.anchors.len())
            .finish_non_exhaustive()
    }
}
