//! Keys and certificates of one run, shared by its processes through a folder.
//! Must not be used for anything but measuring: the authority's key lies in a file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use valkyrie::identity::{Authority, IdentityStore, TrustBundle, TrustDomain};

/// The name in the peers' certificates.
pub(crate) const NAME: &str = "localhost";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes the files: an authority for Valkyrie, and one with two certificates for its peers. All
/// keys are ECDSA P-256.
pub(crate) fn make(folder: &Path) -> Result<()> {
    let domain = TrustDomain::parse("bench.example")?;
    let (certificate, key) = Authority::generate(domain, SystemTime::now(), DAY)?.to_pem();
    std::fs::write(folder.join("authority.pem"), certificate)?;
    std::fs::write(folder.join("authority.key"), key)?;

    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    std::fs::write(folder.join("ca.pem"), ca.pem())?;
    for name in ["server", "client"] {
        let mut leaf = CertificateParams::new(vec![NAME.to_owned()])?;
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let leaf = leaf.signed_by(&key, &ca)?;
        std::fs::write(folder.join(format!("{name}.pem")), leaf.pem())?;
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

fn authority(folder: &Path) -> Result<Authority> {
    let certificate = read(folder, "authority.pem")?;
    let key = read(folder, "authority.key")?;
    Ok(Authority::from_pem(&certificate, &key)?)
}

/// A Valkyrie identity of this name.
pub(crate) fn identity(folder: &Path, name: &str) -> Result<IdentityStore> {
    let authority = authority(folder)?;
    let domain = authority.trust_domain().clone();
    let id = domain.member(name)?;
    let credentials = authority.credentials(&id, &[], SystemTime::now(), DAY)?;
    let bundle = TrustBundle::from_pem(domain, &authority.root_pem())?;
    Ok(IdentityStore::new(credentials, bundle))
}

/// The text of one of the files.
pub(crate) fn read(folder: &Path, file: &str) -> Result<String> {
    let path = folder.join(file);
    std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
}

fn roots(folder: &Path) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
    Ok(Arc::new(roots))
}

type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn shown(folder: &Path, name: &str) -> Result<Shown> {
    let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.pem")))?;
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")))?;
    Ok((vec![certificate], key))
}

/// TLS 1.3 with client certificates, for a peer's server.
pub(crate) fn server_tls(folder: &Path) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(folder)?, provider.clone());
    let (certificate, key) = shown(folder, "server")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(certificate, key)?;
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"bench".to_vec()];
    Ok(config)
}

/// TLS 1.3 with a client certificate, for a peer's client.
pub(crate) fn client_tls(folder: &Path) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (certificate, key) = shown(folder, "client")?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(folder)?)
        .with_client_auth_cert(certificate, key)?;
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"bench".to_vec()];
    Ok(config)
}
