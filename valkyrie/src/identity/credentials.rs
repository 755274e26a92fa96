//! Our own key and certificate, from the signing request to the renewal time.
//! Must not talk to an authority: the caller carries the request there.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::{IdentityError, SpiffeId};

/// A fresh key and the request for its certificate.
pub struct KeyRequest {}

impl KeyRequest {
    /// Makes a key (ECDSA P-256) and a request signed by it.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn generate() -> Result<Self, IdentityError> {
        todo!()
    }

    /// The request in DER, as `Authority::issue` takes it.
    pub fn csr_der(&self) -> &[u8] {
        todo!()
    }

    /// Joins the key with the chain it was issued.
    ///
    /// # Errors
    /// When the chain's leaf is not for this key or does not name exactly one peer.
    pub fn into_credentials(
        self,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Credentials, IdentityError> {
        let _ = chain;
        todo!()
    }
}

/// A key with its certificate chain.
#[derive(Clone)]
pub struct Credentials {}

impl Credentials {
    /// Whom they name.
    pub fn id(&self) -> &SpiffeId {
        todo!()
    }

    /// When the leaf ends.
    pub fn expires_at(&self) -> SystemTime {
        todo!()
    }

    /// When to ask for new ones: two thirds of the leaf's life.
    pub fn renew_at(&self) -> SystemTime {
        todo!()
    }
}
