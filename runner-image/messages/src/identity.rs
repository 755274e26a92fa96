//! How an agent gets its certificate.
//! Must not hold keys: a private key never leaves its owner.

/// Asks for a first certificate.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct IssueRequest {
    /// The pod's projected service-account token.
    #[prost(string, tag = "1")]
    pub token: String,
    /// Certificate signing request, DER.
    #[prost(bytes = "vec", tag = "2")]
    pub csr_der: Vec<u8>,
}

/// Asks for the next certificate, over a session with the current one.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct RenewRequest {
    /// Certificate signing request, DER.
    #[prost(bytes = "vec", tag = "1")]
    pub csr_der: Vec<u8>,
}

/// A certificate and what to trust.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct IssueReply {
    /// The certificate and its intermediates, DER, leaf first.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub chain_der: Vec<Vec<u8>>,
    /// Roots to trust from now on, PEM.
    #[prost(string, tag = "2")]
    pub bundle_pem: String,
}
