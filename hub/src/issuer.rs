//! Who gives agents their certificates.
//! Must not check tokens itself: that is the operator's or the command line's part.

use async_trait::async_trait;
use valkyrie::endpoint::CallError;
use valkyrie::identity::SpiffeId;

/// A new certificate.
#[derive(Clone, Debug)]
pub struct IssuedIdentity {
    /// The chain, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// Whom to trust from now on, PEM.
    pub bundle_pem: String,
}

/// Issues certificates to agents.
#[async_trait]
pub trait Issuer: Send + Sync + 'static {
    /// A first certificate for who holds this token.
    async fn issue(&self, token: &str, csr_der: &[u8]) -> Result<IssuedIdentity, CallError>;

    /// The next certificate for this peer.
    async fn renew(&self, peer: &SpiffeId, csr_der: &[u8]) -> Result<IssuedIdentity, CallError>;
}
