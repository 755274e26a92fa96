//! Our certificate authority: one self-signed root that issues short-lived certificates.
//! Must not store keys: the caller keeps the PEM.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};

use super::{Credentials, IdentityError, KeyRequest, SpiffeId, TrustDomain, verify};

/// Certificates begin this long before they are issued, for clocks that run behind.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// A root certificate with its key, for one trust domain.
pub struct Authority {
    trust_domain: TrustDomain,
    root_pem: String,
    expires_at: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// See [`Authority::reset_secret`].
#[derive(Clone, PartialEq, Eq)]
pub struct ResetSecret([u8; 32]);

impl ResetSecret {
    /// A key for one use of it.
    #[cfg(feature = "quic")]
    pub(crate) fn key_for(&self, context: &str) -> [u8; 32] {
        blake3::derive_key(context, &self.0)
    }
}

impl std::fmt::Debug for ResetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetSecret(..)")
    }
}

impl Authority {
    /// Makes a new root.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn generate(
        trust_domain: TrustDomain,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Self, IdentityError> {
        let key = new_key()?;
        let mut params = dated(now, now + lifetime);
        params.distinguished_name = named("Valkyrie root");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(ia5(&format!("spiffe://{trust_domain}"))?)];
        let root = params
            .self_signed(&key)
            .map_err(crypto("sign the root certificate"))?;
        Self::from_pem(&root.pem(), &key.serialize_pem())
    }

    /// Reads a root back from its certificate and key in PEM.
    ///
    /// # Errors
    /// When either cannot be read, they do not belong together, or it is not a root of ours.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let pem = |what, why: String| IdentityError::Pem { what, why };
        let root = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| pem("the root certificate", error.to_string()))?;
        let key = KeyPair::from_pem(key).map_err(|error| pem("the root key", error.to_string()))?;
        let parsed = verify::parse(&root)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(pem(
                "the root key",
                "it belongs to another certificate".to_owned(),
            ));
        }
        if !parsed.is_ca() {
            return Err(pem("the root certificate", "it is no authority".to_owned()));
        }
        let uri = verify::only_uri(&parsed)?;
        let domain = uri.strip_prefix("spiffe://").unwrap_or_default();
        let trust_domain = TrustDomain::parse(domain)?;
        let expires_at = verify::system_time(parsed.validity().not_after.timestamp());
        let issuer =
            Issuer::from_ca_cert_der(&root, key).map_err(crypto("use the root certificate"))?;
        Ok(Self {
            trust_domain,
            root_pem: certificate.to_owned(),
            expires_at,
            issuer,
        })
    }

    /// The certificate and the key in PEM; the second is the secret of the whole installation.
    pub fn to_pem(&self) -> (String, String) {
        (self.root_pem.clone(), self.issuer.key().serialize_pem())
    }

    /// The secret of this authority's servers by which one that was restarted can tell peers that
    /// their connections are gone. The same for the same key, and says nothing about it.
    pub fn reset_secret(&self) -> ResetSecret {
        const CONTEXT: &str = "valkyrie 2026-11 QUIC stateless reset of an authority's servers";
        ResetSecret(blake3::derive_key(
            CONTEXT,
            &self.issuer.key().serialize_der(),
        ))
    }

    /// The root certificate in PEM, for a `TrustBundle`.
    pub fn root_pem(&self) -> String {
        self.root_pem.clone()
    }

    /// The trust domain it issues for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// When the root itself ends.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Issues a certificate for the key of a signing request (DER). Nothing of the request but
    /// its public key is used. Returns the chain, leaf first, without the root. It never
    /// outlives the root.
    ///
    /// # Errors
    /// When the request is not signed by its own key or the id is outside the trust domain.
    pub fn issue(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        dns: &[String],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        if id.trust_domain() != &self.trust_domain {
            return Err(IdentityError::Foreign {
                id: id.to_string(),
                expected: self.trust_domain.to_string(),
            });
        }
        let request = CertificateSigningRequestDer::from(csr_der);
        let request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|error| IdentityError::Request(error.to_string()))?;
        let mut params = dated(now, (now + lifetime).min(self.expires_at));
        params.distinguished_name = named("Valkyrie peer");
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params
            .subject_alt_names
            .push(SanType::URI(ia5(&id.to_string())?));
        for name in dns {
            params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
        }
        let leaf = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(crypto("sign a certificate"))?;
        Ok(vec![leaf.der().clone()])
    }

    /// A fresh key with a certificate of this authority, for the process that holds it.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn credentials(
        &self,
        id: &SpiffeId,
        dns: &[String],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Credentials, IdentityError> {
        let request = KeyRequest::generate()?;
        let chain = self.issue(request.csr_der(), id, dns, now, lifetime)?;
        request.into_credentials(chain)
    }
}

/// A fresh ECDSA P-256 key.
pub(super) fn new_key() -> Result<KeyPair, IdentityError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(crypto("make a key"))
}

pub(super) fn crypto(what: &'static str) -> impl Fn(rcgen::Error) -> IdentityError {
    move |error| IdentityError::Crypto {
        what,
        why: error.to_string(),
    }
}

fn ia5(text: &str) -> Result<Ia5String, IdentityError> {
    Ia5String::try_from(text).map_err(crypto("write a name into a certificate"))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

fn dated(now: SystemTime, end: SystemTime) -> CertificateParams {
    let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + since_epoch(now - CLOCK_SKEW);
    params.not_after = epoch + since_epoch(end);
    params
}

#[cfg(test)]
mod tests;
