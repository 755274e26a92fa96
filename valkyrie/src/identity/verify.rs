//! Whether a certificate chain names a peer of our trust domain, now.
//! Must not read a clock, and must not look at DNS names: the SPIFFE id is the identity.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::deny::{KeyPrint, Serial};
use super::{IdentityError, SpiffeId, TrustBundle};

/// What a leaf says about itself; only to be believed after [`chain`] or for our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) id: SpiffeId,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) serial: Serial,
    pub(crate) key: KeyPrint,
}

/// Which side of a handshake a certificate is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    Server,
}

/// Checks a chain to the bundle's roots, its dates, and that its leaf names exactly one peer of
/// the bundle's trust domain.
pub(crate) fn chain(
    bundle: &TrustBundle,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: SystemTime,
    usage: Usage,
) -> Result<Leaf, IdentityError> {
    let refuse = |why: webpki::Error| IdentityError::Certificate(reason(&why));
    let end_entity = EndEntityCert::try_from(leaf).map_err(refuse)?;
    let usage = match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    };
    let time = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    end_entity
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            bundle.anchors(),
            intermediates,
            time,
            usage,
            None,
            None,
        )
        .map_err(refuse)?;
    let leaf = read_leaf(leaf)?;
    if leaf.id.trust_domain() != bundle.trust_domain() {
        return Err(IdentityError::Foreign {
            id: leaf.id.to_string(),
            expected: bundle.trust_domain().to_string(),
        });
    }
    Ok(leaf)
}

/// Reads a leaf: exactly one URI name, which is a SPIFFE id; not a CA, may not sign
/// certificates (SPIFFE X509-SVID sections 4.1 and 5.2).
pub(crate) fn read_leaf(der: &CertificateDer<'_>) -> Result<Leaf, IdentityError> {
    let certificate = parse(der)?;
    let refuse = |why: &str| IdentityError::Certificate(why.to_owned());
    if certificate.is_ca() {
        return Err(refuse("it is a certificate authority"));
    }
    for extension in certificate.extensions() {
        if let ParsedExtension::KeyUsage(usage) = extension.parsed_extension()
            && (usage.key_cert_sign() || usage.crl_sign())
        {
            return Err(refuse("it may sign certificates"));
        }
    }
    let id = SpiffeId::parse(&only_uri(&certificate)?)?;
    let validity = certificate.validity();
    Ok(Leaf {
        id,
        not_before: system_time(validity.not_before.timestamp()),
        not_after: system_time(validity.not_after.timestamp()),
        serial: Serial::new(certificate.raw_serial()),
        key: KeyPrint(Sha256::digest(certificate.public_key().raw).into()),
    })
}

/// The only URI name of a certificate.
pub(crate) fn only_uri(certificate: &X509Certificate<'_>) -> Result<String, IdentityError> {
    let refuse = |why: &str| IdentityError::Certificate(why.to_owned());
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| refuse("its alternative names cannot be read"))?
        .ok_or_else(|| refuse("it has no alternative names"))?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        (None, _) => Err(refuse("it has no URI name")),
        (Some(_), Some(_)) => Err(refuse("it has more than one URI name")),
    }
}

/// Reads the DER of a certificate, with nothing after it.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(IdentityError::Certificate("it is not X.509".to_owned())),
    }
}

/// Certificates in DER, one after the other.
#[cfg(feature = "spiffe")]
pub(crate) fn certificates(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der)
            .map_err(|_| IdentityError::Certificate("it is not X.509".to_owned()))?;
        let (first, rest) = der.split_at(der.len() - rest.len());
        found.push(CertificateDer::from(first.to_vec()));
        der = rest;
    }
    Ok(found)
}

pub(crate) fn system_time(timestamp: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0))
}

fn reason(error: &webpki::Error) -> String {
    match error {
        webpki::Error::CertExpired { .. } => "it has expired".to_owned(),
        webpki::Error::CertNotValidYet { .. } => "it is not valid yet".to_owned(),
        webpki::Error::UnknownIssuer => "no trusted root issued it".to_owned(),
        webpki::Error::CaUsedAsEndEntity => "it is a certificate authority".to_owned(),
        other => other.to_string(),
    }
}
