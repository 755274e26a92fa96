//! Who a peer is: SPIFFE ids, our authority, certificates, and how they are checked.
//! Must not open sockets nor read a clock where a caller can pass the time.
//!
//! ```
//! # #[cfg(feature = "identity")]
//! # fn main() -> Result<(), valkyrie::identity::IdentityError> {
//! use std::time::{Duration, SystemTime};
//! use valkyrie::identity::{Authority, KeyRequest, TrustDomain};
//!
//! let domain = TrustDomain::parse("example.test")?;
//! let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
//! let authority = Authority::generate(domain.clone(), now, 24 * hour)?;
//! // The key stays with its owner; the request goes to the authority, the chain comes back.
//! let request = KeyRequest::generate()?;
//! let id = domain.member("ns/team/agent/1")?;
//! let chain = authority.issue(request.csr_der(), &id, &[], now, hour)?;
//! let credentials = request.into_credentials(chain)?;
//! assert_eq!(credentials.id(), &id);
//! assert!(credentials.renew_at() < credentials.expires_at());
//! # Ok(()) }
//! # #[cfg(not(feature = "identity"))]
//! # fn main() {}
//! ```

#[cfg(feature = "identity")]
mod authority;
#[cfg(feature = "identity")]
mod bundle;
#[cfg(feature = "identity")]
mod clock;
#[cfg(feature = "identity")]
mod credentials;
#[cfg(feature = "identity")]
mod deny;
mod spiffe;
#[cfg(feature = "identity")]
mod store;
#[cfg(feature = "identity")]
pub mod tls;
#[cfg(feature = "identity")]
mod verify;

#[cfg(feature = "identity")]
pub use rustls::pki_types::CertificateDer;
pub use spiffe::{SpiffeId, TrustDomain};
#[cfg(feature = "net")]
pub(crate) use verify::Leaf;
#[cfg(feature = "spiffe")]
pub(crate) use verify::certificates;
#[cfg(feature = "identity")]
pub use {
    authority::Authority, authority::ResetSecret, bundle::TrustBundle, clock::Clock,
    credentials::Credentials, credentials::KeyRequest, deny::Denial, deny::DenyList,
    deny::KeyPrint, deny::Serial, store::IdentityStore,
};

/// What can be wrong with an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not a trust domain name.
    #[error("{0:?} is not a trust domain: use lower-case letters, digits, '.', '-' and '_'")]
    TrustDomain(String),
    /// Not a SPIFFE id.
    #[error("{text:?} is not a SPIFFE id: {why}")]
    SpiffeId {
        /// The text that was read.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// PEM that holds no usable certificate or key.
    #[error("cannot read {what}: {why}")]
    Pem {
        /// What was read.
        what: &'static str,
        /// Why it failed.
        why: String,
    },
    /// A certificate that does not name exactly one acceptable peer.
    #[error("certificate refused: {0}")]
    Certificate(String),
    /// A certificate signing request that cannot be trusted.
    #[error("certificate request refused: {0}")]
    Request(String),
    /// An id outside the authority's trust domain.
    #[error("{id} is not in trust domain {expected}")]
    Foreign {
        /// The id in question.
        id: String,
        /// The trust domain served here.
        expected: String,
    },
    /// The crypto library failed.
    #[error("cannot {what}: {why}")]
    Crypto {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        why: String,
    },
}
