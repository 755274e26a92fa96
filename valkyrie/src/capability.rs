//! Capability tokens: short-lived JWTs that let the holder of one certificate do a few named things
//! with one audience (RFC 7519, RFC 8725, RFC 8705 section 3.1).
//! Must not read a clock, nor let a token reach a log: [`Token`] shows nothing of itself.
//!
//! A token counts only with one of the algorithms EdDSA and ES256 that its key is pinned to, a key
//! from a fixed set, no header but `alg`, `kid` and `typ`, every claim, at most ten minutes of life,
//! and on a connection whose certificate it names (`cnf.x5t#S256`).
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use rcgen::PublicKeyData as _;
//! use valkyrie::capability::{Algorithm, Grant, Signer, Thumbprint, Verifier};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
//! let signer = Signer::new("operator", "key-1", Algorithm::EdDsa, &key.serialize_der())?;
//! let certificate = Thumbprint::of(b"the DER of the holder's certificate");
//! let grant = Grant {
//!     subject: "spiffe://example.test/ns/team/agent/1".into(),
//!     audience: "artifacts".into(),
//!     scopes: vec!["get".into()],
//!     certificate,
//!     life: Duration::from_secs(300),
//!     id: "1".into(),
//! };
//! let now = SystemTime::now();
//! let token = signer.sign(&grant, now)?;
//! let verifier = Verifier::new("operator", "artifacts");
//! let verifier = verifier.key("key-1", Algorithm::EdDsa, key.der_bytes());
//! assert_eq!(verifier.verify(&token, certificate, now)?.scopes, ["get"]);
//! assert!(verifier.verify(&token, Thumbprint([0; 32]), now).is_err());
//! # Ok(()) }
//! ```

#[cfg(test)]
mod tests;
mod verifier;

pub use verifier::{Refusal, Verifier};

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Longest life of a token.
pub const MAX_LIFE: Duration = Duration::from_secs(600);
/// How far two clocks may differ.
pub const SKEW: Duration = Duration::from_secs(60);
/// Longest token in bytes.
pub const MAX_TOKEN: usize = 4096;

/// A token in transit. Neither `Debug` nor anything else shows it but [`Token::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token that came from elsewhere.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// Its text, for the header that it travels in; not for a URL or a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// SHA-256 of a certificate, which a token is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Thumbprint(pub [u8; 32]);

impl Thumbprint {
    /// Of a certificate in DER, the first one of a chain.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    fn encode(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    fn jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        }
    }
}

/// What a valid token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who the holder is.
    pub subject: String,
    /// What the holder may do; the words are the audience's.
    pub scopes: Vec<String>,
    /// Names this token.
    pub id: String,
    /// When it ends.
    pub expires: SystemTime,
}

/// What a token is to allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who may use it.
    pub subject: String,
    /// With whom.
    pub audience: String,
    /// For what.
    pub scopes: Vec<String>,
    /// On connections with which certificate.
    pub certificate: Thumbprint,
    /// For how long, [`MAX_LIFE`] at most.
    pub life: Duration,
    /// A name that no other token has.
    pub id: String,
}

/// The claims on the wire; all must be there.
#[derive(Serialize, Deserialize)]
struct Body {
    iss: Option<String>,
    aud: Option<String>,
    sub: Option<String>,
    exp: Option<u64>,
    nbf: Option<u64>,
    jti: Option<String>,
    cnf: Option<Confirmation>,
    #[serde(default)]
    scope: String,
}

#[derive(Serialize, Deserialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: Option<String>,
}

/// Why a token cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// The key is not a private one of this algorithm, in PKCS #8.
    #[error("the key is not a PKCS #8 key of this algorithm")]
    Key,
    /// It would live for too long.
    #[error("a token lives for at most {} seconds", MAX_LIFE.as_secs())]
    Life,
    /// A scope with a space in it, or an empty one, would read as others.
    #[error("a scope is one word")]
    Scope,
}

/// Makes tokens.
pub struct Signer {
    issuer: String,
    header: Header,
    key: EncodingKey,
}

impl Signer {
    /// Signs with a private key (PKCS #8, DER) that verifiers know by this name.
    ///
    /// # Errors
    /// When the key is of no use.
    pub fn new(
        issuer: impl Into<String>,
        key_id: impl Into<String>,
        algorithm: Algorithm,
        pkcs8: &[u8],
    ) -> Result<Self, SignError> {
        let key = match algorithm {
            Algorithm::EdDsa => EncodingKey::from_ed_der(pkcs8),
            Algorithm::Es256 => EncodingKey::from_ec_der(pkcs8),
        };
        let mut header = Header::new(algorithm.jwt());
        header.kid = Some(key_id.into());
        let issuer = issuer.into();
        // The key is looked at only when it signs.
        jsonwebtoken::encode(&header, &issuer, &key).map_err(|_| SignError::Key)?;
        Ok(Self {
            issuer,
            header,
            key,
        })
    }

    /// Makes a token that counts from now on.
    ///
    /// # Errors
    /// When the grant is out of bounds.
    pub fn sign(&self, grant: &Grant, now: SystemTime) -> Result<Token, SignError> {
        if grant.life > MAX_LIFE {
            return Err(SignError::Life);
        }
        let is_word = |scope: &String| !scope.is_empty() && !scope.contains(char::is_whitespace);
        if !grant.scopes.iter().all(is_word) {
            return Err(SignError::Scope);
        }
        let now = seconds(now);
        let body = Body {
            iss: Some(self.issuer.clone()),
            aud: Some(grant.audience.clone()),
            sub: Some(grant.subject.clone()),
            exp: Some(now + grant.life.as_secs()),
            nbf: Some(now),
            jti: Some(grant.id.clone()),
            cnf: Some(Confirmation {
                certificate: Some(grant.certificate.encode()),
            }),
            scope: grant.scopes.join(" "),
        };
        let token = jsonwebtoken::encode(&self.header, &body, &self.key);
        token.map(Token).map_err(|_| SignError::Key)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("issuer", &self.issuer)
            .field("kid", &self.header.kid)
            .finish_non_exhaustive()
    }
}

/// Whole seconds since 1970; times before count as 1970.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
