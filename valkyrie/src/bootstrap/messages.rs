//! How a certificate is asked for and given: protobuf, the tags are the contract.
//! Must not hold keys: a private key never leaves its owner.

/// Asks for a first certificate, over a connection without one.
#[derive(Clone, Eq, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct IssueRequest {
    /// What proves who asks: a service-account token or a join token.
    #[prost(string, tag = "1")]
    pub token: String,
    /// Certificate signing request, DER.
    #[prost(bytes = "vec", tag = "2")]
    pub csr_der: Vec<u8>,
}

/// Without the token.
impl std::fmt::Debug for IssueRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { token: _, csr_der } = self;
        let bytes = csr_der.len();
        f.debug_struct("IssueRequest")
            .field("csr_der_bytes", &bytes)
            .finish_non_exhaustive()
    }
}

/// Asks for the next certificate, over a connection with the current one.
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
    /// Roots to trust from now on, PEM; empty keeps the present ones.
    #[prost(string, tag = "2")]
    pub bundle_pem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let request = IssueRequest {
            token: "hazel-nut".into(),
            csr_der: vec![7; 3],
        };
        assert!(!format!("{request:?}").contains("hazel"));
    }
}
