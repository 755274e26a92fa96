//! rustls configurations over an identity store: TLS 1.3, mutual, aws-lc-rs only.
//! Must not resume TLS sessions nor use early data: every handshake checks certificates anew.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use std::sync::Arc;

use super::verify::{self, Usage};
use super::{IdentityError, IdentityStore, SpiffeId};
use crate::ALPN;

/// What servers use: the store's certificate, and clients with one of its trust domain or none.
///
/// # Errors
/// When the provider has no TLS 1.3, which would be a defect of the build.
pub fn server_config(store: &IdentityStore) -> Result<ServerConfig, IdentityError> {
    let checker = Arc::new(Checker::new(store, None));
    let mut config = ServerConfig::builder_with_provider(checker.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_client_cert_verifier(checker)
        .with_cert_resolver(Arc::new(Shown(store.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// What dialers use: the store's certificate if any, and a server of its trust domain, which
/// must be `expected` when given.
///
/// # Errors
/// As [`server_config`].
pub fn client_config(
    store: &IdentityStore,
    expected: Option<SpiffeId>,
) -> Result<ClientConfig, IdentityError> {
    let checker = Arc::new(Checker::new(store, expected));
    let mut config = ClientConfig::builder_with_provider(checker.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(checker)
        .with_client_cert_resolver(Arc::new(Shown(store.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What the leaf of a finished handshake says; the chain was checked there.
#[cfg(any(feature = "quic", feature = "tcp"))]
pub(crate) fn peer(leaf: &CertificateDer<'_>) -> Result<super::Leaf, IdentityError> {
    verify::read_leaf(leaf)
}

fn tls(error: Error) -> IdentityError {
    IdentityError::Crypto {
        what: "set up TLS 1.3",
        why: error.to_string(),
    }
}

/// Shows the store's certificate of the moment.
#[derive(Debug)]
struct Shown(IdentityStore);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .credentials()
            .map(|credentials| credentials.certified())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0
            .credentials()
            .map(|credentials| credentials.certified())
    }

    fn has_certs(&self) -> bool {
        self.0.credentials().is_some()
    }
}

/// Checks the peer's chain against the store's bundle and clock of the moment.
#[derive(Debug)]
struct Checker {
    store: IdentityStore,
    expected: Option<SpiffeId>,
    provider: Arc<CryptoProvider>,
}

impl Checker {
    fn new(store: &IdentityStore, expected: Option<SpiffeId>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Self {
            store: store.clone(),
            expected,
            provider,
        }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
    ) -> Result<(), Error> {
        let now = self.store.clock().now();
        let refuse = |error: IdentityError| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
        };
        let bundle = self.store.bundle();
        let leaf = verify::chain(&bundle, leaf, intermediates, now, usage).map_err(refuse)?;
        match &self.expected {
            Some(expected) if *expected != leaf.id => Err(refuse(IdentityError::Certificate(
                format!("it names {}, expected was {expected}", leaf.id),
            ))),
            _ => Ok(()),
        }
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn tls12() -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }
}

impl ClientCertVerifier for Checker {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, intermediates, Usage::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ServerCertVerifier for Checker {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, intermediates, Usage::Server)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;
    use crate::identity::{TrustBundle, TrustDomain};

    #[test]
    fn only_tls_13_by_aws_lc_is_spoken_without_resumption_or_early_data() {
        let bundle = TrustBundle::empty(TrustDomain::parse("t.example").unwrap());
        let store = IdentityStore::anonymous(bundle);
        let server = server_config(&store).unwrap();
        assert_eq!(server.max_early_data_size, 0);
        assert!(!server.send_half_rtt_data);
        assert_eq!(server.send_tls13_tickets, 0);
        assert_eq!(server.alpn_protocols, [ALPN]);
        let client = client_config(&store, None).unwrap();
        assert!(!client.enable_early_data);
        assert_eq!(client.alpn_protocols, [ALPN]);
        for provider in [server.crypto_provider(), client.crypto_provider()] {
            let preferred = provider.kx_groups.first().map(|group| group.name());
            assert_eq!(
                preferred,
                Some(NamedGroup::X25519MLKEM768),
                "post-quantum comes first"
            );
        }
    }
}
