//! Our own key and certificate, from the signing request to the renewal time.
//! Must not talk to an authority: the caller carries the request there.

use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::authority::{crypto, new_key};
use super::verify::{self, Leaf, Usage, read_leaf};
use super::{IdentityError, KeyPrint, Serial, SpiffeId, TrustBundle};

/// A fresh key and the request for its certificate.
pub struct KeyRequest {
    key: KeyPair,
    csr_der: Vec<u8>,
}

impl KeyRequest {
    /// Makes a key (ECDSA P-256) and a request signed by it.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = new_key()?;
        let request = CertificateParams::default()
            .serialize_request(&key)
            .map_err(crypto("sign a certificate request"))?;
        Ok(Self {
            csr_der: request.der().to_vec(),
            key,
        })
    }

    /// The request in DER, as `Authority::issue` takes it.
    pub fn csr_der(&self) -> &[u8] {
        &self.csr_der
    }

    /// Joins the key with the chain it was issued.
    ///
    /// # Errors
    /// When the chain's leaf is not for this key or does not name exactly one peer.
    pub fn into_credentials(
        self,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Credentials, IdentityError> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(|why| {
            IdentityError::Crypto {
                what: "use a key",
                why: why.to_owned(),
            }
        })?;
        Credentials::new(chain, key)
    }
}

/// A key with its certificate chain.
#[derive(Clone)]
pub struct Credentials {
    leaf: Arc<Leaf>,
    certified: Arc<CertifiedKey>,
}

impl Credentials {
    /// Joins a chain, leaf first, and the leaf's key.
    ///
    /// # Errors
    /// When the leaf is not for this key or does not name exactly one peer.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let first = chain
            .first()
            .ok_or_else(|| IdentityError::Certificate("the chain is empty".to_owned()))?;
        let leaf = Arc::new(read_leaf(first)?);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        Ok(Self {
            leaf,
            certified: Arc::new(certified),
        })
    }

    /// Whether peers with this bundle would believe them now.
    ///
    /// # Errors
    /// When they would not, with the reason.
    pub fn check(&self, bundle: &TrustBundle, now: SystemTime) -> Result<(), IdentityError> {
        let (leaf, intermediates) = self
            .certified
            .cert
            .split_first()
            .ok_or_else(|| IdentityError::Certificate("the chain is empty".to_owned()))?;
        verify::chain(bundle, leaf, intermediates, now, Usage::Client).map(drop)
    }

    /// Whom they name.
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// The serial number of the leaf.
    pub fn serial(&self) -> &Serial {
        &self.leaf.serial
    }

    /// The fingerprint of the leaf's key.
    pub fn key(&self) -> KeyPrint {
        self.leaf.key
    }

    /// When the leaf ends.
    pub fn expires_at(&self) -> SystemTime {
        self.leaf.not_after
    }

    /// When to ask for new ones: two thirds of the leaf's life.
    pub fn renew_at(&self) -> SystemTime {
        let life = self
            .leaf
            .not_after
            .duration_since(self.leaf.not_before)
            .unwrap_or_default();
        self.leaf.not_before + life * 2 / 3
    }

    /// What the certificate says.
    #[cfg(test)]
    pub(crate) fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// What TLS shows and signs with.
    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl std::fmt::Debug for Credentials {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("id", &self.leaf.id.to_string())
            .field("serial", &self.leaf.serial)
            .field("expires_at", &self.leaf.not_after)
            .finish_non_exhaustive()
    }
}
