//! What a handshake agrees on and whom it lets in, on each network transport.
//! Must not rely on our own dialer: it looks at TLS from outside.

use std::sync::Arc;

use rustls::NamedGroup;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use valkyrie::endpoint::{Limits, TransportKind};
use valkyrie::identity::tls;
use valkyrie::metrics::Refusal;

use crate::intruders::{Trusting, forged};
use crate::world::*;

pub(crate) const ALPNS: [(TransportKind, &[u8]); 2] = [
    (TransportKind::Tcp, valkyrie::ALPN),
    (TransportKind::WebSocket, b"http/1.1"),
];

pub(crate) async fn connect(
    world: &World,
    config: rustls::ClientConfig,
) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
    let socket = tokio::net::TcpStream::connect(world.address).await?;
    let name = "valkyrie.invalid".try_into().unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
}

/// A client that can do nothing but the post-quantum exchange.
fn only_post_quantum() -> rustls::ClientConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_wanted = |name| name == NamedGroup::X25519MLKEM768;
    provider.kx_groups.retain(|group| is_wanted(group.name()));
    let provider = Arc::new(provider);
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)));
    config.with_no_client_auth()
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum_on_each_transport() {
    let world = World::new(TransportKind::Quic, Limits::default()).await;
    let mut config = only_post_quantum();
    config.alpn_protocols = vec![valkyrie::ALPN.to_vec()];
    // quinn does not tell the group: a client that knows no other one gets in.
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let client = quinn::ClientConfig::new(Arc::new(crypto));
    let endpoint = quinn::Endpoint::client(local()).unwrap();
    let connecting = endpoint.connect_with(client, world.address, "valkyrie.invalid");
    in_time("QUIC", connecting.unwrap()).await.unwrap();
    for (kind, alpn) in ALPNS {
        let world = World::new(kind, Limits::default()).await;
        // What our dialer offers, and what comes of it.
        let identity = world.identity("ns/a/agent/1");
        let mut config = tls::client_config(&identity, None).unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        let tls = in_time("TLS", connect(&world, config)).await.unwrap();
        let group = tls.get_ref().1.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), NamedGroup::X25519MLKEM768, "{kind:?}");
    }
}

/// What a careless authority may write into a certificate.
type Edit = fn(&mut rcgen::CertificateParams);

#[tokio::test]
async fn a_certificate_with_two_uris_or_a_ca_bit_is_refused_over_tcp_and_websocket() {
    let edits: [Edit; 3] = [
        |params| {
            let second = "spiffe://test.example/operator".try_into().unwrap();
            params.subject_alt_names.push(rcgen::SanType::URI(second));
        },
        |params| params.subject_alt_names.clear(),
        |params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
    ];
    for (kind, alpn) in ALPNS {
        let world = World::new(kind, Limits::default()).await;
        for edit in edits {
            let (certificate, key) = forged(&world, edit);
            let mut config = tls::client_config(&world.identity("ns/a/agent/1"), None).unwrap();
            let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let provider = config.crypto_provider().clone();
            let shown = rustls::sign::CertifiedKey::from_der(vec![certificate], key, &provider);
            config.client_auth_cert_resolver = Arc::new(Shown(Arc::new(shown.unwrap())));
            config.alpn_protocols = vec![alpn.to_vec()];
            // The client is done first: the refusal is in what it reads, or in the handshake.
            if let Ok(mut tls) = in_time("TLS", connect(&world, config)).await {
                use tokio::io::AsyncReadExt as _;
                let read = in_time("the alert", tls.read(&mut [0; 16])).await;
                assert!(read.is_err(), "{kind:?} read {read:?}");
            }
        }
        let metrics = world.server().metrics();
        counted("the refusals", metrics.refused(Refusal::Tls), 3).await;
        assert!(world.service.ups.lock().is_empty());
    }
}

#[derive(Debug)]
struct Shown(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shown {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
