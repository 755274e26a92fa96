//! Peers that must not get in, or not further than they may; all over real QUIC.
//! Must not rely on our own dialer where it would refuse to send what an intruder sends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use valkyrie::endpoint::{
    CallError, Class, Code, Dialer, Limits, Link, Peer, Session, TransportKind,
};
use valkyrie::identity::{Authority, IdentityStore, TrustBundle, TrustDomain};
use valkyrie::metrics::Refusal;
use valkyrie::wire::{FrameType, frame};

use crate::service::*;
use crate::world::*;

async fn connect(world: &World, identity: IdentityStore) -> Result<Session, CallError> {
    let dialer = Dialer::builder(identity).quic(world.address);
    dialer.connect(Duration::from_secs(50)).await
}

async fn world() -> World {
    World::new(TransportKind::Quic, Limits::default()).await
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused() {
    let world = world().await;
    let domain = TrustDomain::parse("other.example").unwrap();
    let now = SystemTime::now();
    let other = Authority::generate(domain.clone(), now, HOUR).unwrap();
    let id = domain.member("ns/a/agent/1").unwrap();
    let credentials = other.credentials(&id, &[], now, HOUR).unwrap();
    let identity = IdentityStore::new(credentials, world.bundle());
    assert_eq!(
        connect(&world, identity).await.unwrap_err().code,
        Code::Unauthenticated
    );
    assert!(world.service.ups.lock().is_empty());
    assert_eq!(world.server().metrics().refused(Refusal::Tls).value(), 1);
}

#[tokio::test]
async fn a_server_of_another_trust_domain_is_refused() {
    let world = world().await;
    let domain = TrustDomain::parse("test.example").unwrap();
    let other = Authority::generate(domain.clone(), SystemTime::now(), HOUR).unwrap();
    let bundle = TrustBundle::from_pem(domain, &other.root_pem()).unwrap();
    let error = connect(&world, IdentityStore::anonymous(bundle))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unauthenticated);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let world = world().await;
    let past = SystemTime::now() - 3 * HOUR;
    let id = world.id("ns/a/agent/1");
    let credentials = world.authority.credentials(&id, &[], past, HOUR).unwrap();
    let identity = IdentityStore::new(credentials, world.bundle());
    let error = connect(&world, identity).await.unwrap_err();
    assert_eq!(error.code, Code::Unauthenticated, "{error}");
    assert!(world.service.ups.lock().is_empty());
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_certificate_and_a_renewed_one_continues() {
    let world = world().await;
    let id = world.id("ns/a/agent/1");
    let now = SystemTime::now();
    let short = world
        .authority
        .credentials(&id, &[], now, Duration::from_secs(3))
        .unwrap();
    let identity = IdentityStore::new(short, world.bundle());
    let session = connect(&world, identity.clone()).await.unwrap();
    let before = session.id();
    let renewed = world.authority.credentials(&id, &[], now, HOUR).unwrap();
    identity.replace_credentials(renewed);
    let resumptions = world.server().metrics();
    in_time("the resumption", async {
        while resumptions.resumptions.value() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(echo(&session, "renewed").await.unwrap(), "renewed");
    assert_eq!(session.id(), before);
}

#[tokio::test]
async fn a_peer_without_a_certificate_may_only_make_small_calls() {
    let world = world().await;
    let session = connect(&world, IdentityStore::anonymous(world.bundle()))
        .await
        .unwrap();
    assert_eq!(world.service.ups.lock()[0].1, Peer::Anonymous);
    assert_eq!(echo(&session, "token").await.unwrap(), "token");
    let large = Bytes::from(vec![0; 16 * 1024 + 1]);
    let error = session.call(ECHO, large, options()).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted);
    let (_tx, mut rx) = session
        .open(ECHO_STREAM, Bytes::new(), Class::Log)
        .await
        .unwrap();
    let error = in_time("the refusal", rx.recv()).await.unwrap_err();
    assert_eq!(error.code, Code::Unauthenticated);
    // A notice has no answer; the streams of those that are refused are broken off in the end.
    let refused = async {
        while session.notify(Class::Job, TOLD, Bytes::new()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    in_time("a refusal of notices", refused).await;
    assert_eq!(echo(&session, "token").await.unwrap(), "token");
    assert!(world.service.told.borrow().is_empty());
    let refused = |reason| world.server().metrics().refused(reason).value();
    // The stream and at least one notice; a large body is not even sent.
    assert!(refused(Refusal::Anonymous) >= 2);
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_put_out_when_its_grace_is_over() {
    let limits = Limits {
        anonymous_lifetime: Duration::from_millis(200),
        ..Limits::default()
    };
    let world = World::new(TransportKind::Quic, limits).await;
    let session = connect(&world, IdentityStore::anonymous(world.bundle()))
        .await
        .unwrap();
    let mut link = session.link();
    let left = link.wait_for(|link| *link != Link::Up);
    in_time("the end", left).await.unwrap();
    let metrics = world.server().metrics();
    counted("expired", metrics.refused(Refusal::Expired), 1).await;
}

#[tokio::test]
async fn a_peer_without_a_certificate_has_few_streams_at_once() {
    let world = world().await;
    let (connection, _send, _recv) = crate::attacks::admitted(&world, client(None)).await;
    let mut held = Vec::new();
    // The control stream is one of the four.
    for _ in 0..3 {
        let opened = in_time("a stream", connection.open_bi()).await;
        held.push(opened.unwrap());
    }
    let beyond = connection.open_bi().now_or_never();
    assert!(beyond.is_none(), "the fourth must wait");
    drop(held);
}

/// A client that shows any certificate and trusts every server.
async fn raw(
    world: &World,
    shown: Option<(CertificateDer<'static>, KeyPair)>,
) -> quinn::Connection {
    let endpoint = quinn::Endpoint::client(local()).unwrap();
    endpoint
        .connect_with(client(shown), world.address, "x.invalid")
        .unwrap()
        .await
        .unwrap()
}

/// How such a client connects.
pub(crate) fn client(shown: Option<(CertificateDer<'static>, KeyPair)>) -> quinn::ClientConfig {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(shown)).unwrap();
    quinn::ClientConfig::new(Arc::new(crypto))
}

/// What it shows and trusts.
pub(crate) fn tls(shown: Option<(CertificateDer<'static>, KeyPair)>) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)));
    let mut tls = match shown {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder
                .with_client_auth_cert(vec![certificate], key)
                .unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![valkyrie::ALPN.to_vec()];
    tls
}

#[derive(Debug)]
pub(crate) struct Trusting(pub(crate) Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate that our authority's key signs, with whatever a careless CA would put in it.
pub(crate) fn forged(
    world: &World,
    edit: impl FnOnce(&mut CertificateParams),
) -> (CertificateDer<'static>, KeyPair) {
    let (root, key) = world.authority.to_pem();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&root, KeyPair::from_pem(&key).unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri("spiffe://test.example/ns/a/agent/1")];
    edit(&mut params);
    (params.signed_by(&key, &issuer).unwrap().der().clone(), key)
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// Opens a stream, writes, and tells how the server ended the connection.
async fn poke(connection: &quinn::Connection, bytes: &[u8]) -> quinn::ConnectionError {
    if let Ok((mut send, mut recv)) = connection.open_bi().await {
        let _ = send.write_all(bytes).await;
        let mut answer = [0; 64];
        while let Ok(Some(_)) = recv.read(&mut answer).await {}
    }
    in_time("the end", connection.closed()).await
}

fn is_tls(error: &quinn::ConnectionError) -> bool {
    matches!(error, quinn::ConnectionError::ConnectionClosed(close)
        if (0x100..0x200).contains(&u64::from(close.error_code)))
}

pub(crate) fn is_closed(error: &quinn::ConnectionError, code: u64) -> bool {
    matches!(error, quinn::ConnectionError::ApplicationClosed(close)
        if close.error_code.into_inner() == code)
}

#[tokio::test]
async fn certificates_that_do_not_name_exactly_one_peer_are_refused() {
    let world = world().await;
    type Edit = fn(&mut CertificateParams);
    let cases: [(&str, Edit); 6] = [
        ("two URIs", |params| {
            params
                .subject_alt_names
                .push(uri("spiffe://test.example/operator"));
        }),
        ("no URI", |params| params.subject_alt_names.clear()),
        ("another domain", |params| {
            params.subject_alt_names = vec![uri("spiffe://other.example/ns/a/agent/1")];
        }),
        ("not SPIFFE", |params| {
            params.subject_alt_names = vec![uri("https://test.example/a")]
        }),
        ("CA bit", |params| {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }),
        ("may sign certificates", |params| {
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        }),
    ];
    for (name, edit) in cases {
        let connection = raw(&world, Some(forged(&world, edit))).await;
        let ended = poke(&connection, b"").await;
        assert!(is_tls(&ended), "{name}: {ended}");
    }
    let good = raw(&world, Some(forged(&world, |_| {}))).await;
    let ended = poke(&good, &hello_with(1, 99, b"")).await;
    assert!(!is_tls(&ended), "the good one is refused too: {ended}");
    assert!(world.service.ups.lock().is_empty());
}

fn hello_with(kind: u8, length: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, frame::CRITICAL, length], payload].concat()
}

#[tokio::test]
async fn bytes_that_break_the_protocol_end_the_connection_and_nothing_else() {
    let world = world().await;
    let session = world.dial("ns/a/agent/2").await;
    let oversize = [1, frame::CRITICAL, 0xbf, 0xff, 0xff, 0xff];
    let mut critical = vec![0x3f, frame::CRITICAL, 0];
    critical.extend(vec![0; 16]);
    let ping = frame::header(FrameType::Ping, 0);
    let cases: [(&str, &[u8]); 4] = [
        ("a frame of a gigabyte", &oversize),
        ("an unknown critical frame", &critical),
        ("a ping before HELLO", &ping),
        (
            "no message at all",
            &[1, frame::CRITICAL, 3, 0xff, 0xff, 0xff],
        ),
    ];
    for (name, bytes) in cases {
        let connection = raw(&world, None).await;
        let ended = poke(&connection, bytes).await;
        assert!(
            is_closed(&ended, 2) || is_closed(&ended, 3),
            "{name}: {ended}"
        );
    }
    assert_eq!(echo(&session, "untouched").await.unwrap(), "untouched");
    assert_eq!(world.service.ups.lock().len(), 1);
    assert!(world.server().metrics().refused(Refusal::Protocol).value() >= 4);
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_put_out() {
    let limits = Limits {
        hello: Duration::from_millis(200),
        ..Limits::default()
    };
    let world = World::new(TransportKind::Quic, limits).await;
    let connection = raw(&world, None).await;
    let ended = in_time("the end", connection.closed()).await;
    assert!(is_closed(&ended, 3), "{ended}");
    assert_eq!(world.server().metrics().refused(Refusal::Slow).value(), 1);
}

#[tokio::test]
async fn a_memory_peer_of_another_trust_domain_is_refused() {
    let world = World::new(TransportKind::Memory, Limits::default()).await;
    let claimed = TrustDomain::parse("other.example")
        .unwrap()
        .member("a")
        .unwrap();
    let dialer = Dialer::builder(world.identity("a")).memory(&world.hub, claimed);
    let error = dialer.connect(Duration::from_secs(50)).await.unwrap_err();
    assert_eq!(error.code, Code::Unauthenticated);
}
