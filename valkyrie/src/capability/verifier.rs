//! Decides whether a token counts, here and now, on this connection.
//! Must not fetch a key, nor tell the peer more than that the token does not count.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{DecodingKey, Header, Validation};
use thiserror::Error;

#[cfg(feature = "identity")]
use crate::identity::{IdentityStore, SpiffeId};

use super::{Algorithm, Body, Claims, MAX_LIFE, MAX_TOKEN, SKEW, Thumbprint, Token, seconds};

/// Checks tokens of one issuer for one audience, against a fixed set of keys.
pub struct Verifier {
    issuer: String,
    audience: String,
    keys: HashMap<String, (Algorithm, DecodingKey)>,
    #[cfg(feature = "identity")]
    denied: Option<IdentityStore>,
}

/// Why a token does not count; for logs and counters, while the peer is told no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// Longer than any token of ours.
    #[error("the token is too long")]
    TooLong,
    /// Not a token at all, or with claims of wrong types.
    #[error("the token cannot be read")]
    Malformed,
    /// A header that may lead to another key or another reading.
    #[error("the token has a header that is not allowed")]
    Header,
    /// No key of this name.
    #[error("the token's key is not known")]
    Key,
    /// Another algorithm than the key's.
    #[error("the token's algorithm is not its key's")]
    Algorithm,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is missing.
    #[error("the token lacks a claim: {0}")]
    Missing(&'static str),
    /// Of somebody else.
    #[error("the token has another issuer")]
    Issuer,
    /// For somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// It does not count yet.
    #[error("the token is not valid yet")]
    Early,
    /// It does not count any more.
    #[error("the token has expired")]
    Expired,
    /// It would live for longer than allowed.
    #[error("the token lives for too long")]
    Life,
    /// It was given to the holder of another certificate.
    #[error("the token belongs to another certificate")]
    Certificate,
    /// Its subject is on the deny list.
    #[error("the token's subject is denied")]
    Denied,
}

impl Verifier {
    /// Knows no key yet.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            keys: HashMap::new(),
            #[cfg(feature = "identity")]
            denied: None,
        }
    }

    /// Refuses tokens of subjects that this store denies at the time: their SPIFFE ids. Denied
    /// certificates and keys are met where the connection is made.
    #[cfg(feature = "identity")]
    #[must_use]
    pub fn denied(mut self, store: IdentityStore) -> Self {
        self.denied = Some(store);
        self
    }

    /// Trusts a public key: 32 bytes for Ed25519, the uncompressed point for P-256.
    #[must_use]
    pub fn key(mut self, id: impl Into<String>, algorithm: Algorithm, public: &[u8]) -> Self {
        let key = match algorithm {
            Algorithm::EdDsa => DecodingKey::from_ed_der(public),
            Algorithm::Es256 => DecodingKey::from_ec_der(public),
        };
        self.keys.insert(id.into(), (algorithm, key));
        self
    }

    /// What a token allows on a connection whose peer has shown this certificate.
    ///
    /// # Errors
    /// When it does not count.
    pub fn verify(
        &self,
        token: &Token,
        certificate: Thumbprint,
        now: SystemTime,
    ) -> Result<Claims, Refusal> {
        let token = token.reveal();
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::Malformed)?;
        check_header(&header)?;
        let known = header.kid.as_ref().and_then(|id| self.keys.get(id));
        let (algorithm, key) = known.ok_or(Refusal::Key)?;
        if header.alg != algorithm.jwt() {
            return Err(Refusal::Algorithm);
        }
        // The claims are checked below, against the caller's clock.
        let mut signature = Validation::new(algorithm.jwt());
        signature.required_spec_claims.clear();
        signature.validate_exp = false;
        signature.validate_aud = false;
        let body = jsonwebtoken::decode::<Body>(token, key, &signature);
        let body = body.map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => Refusal::Signature,
            _ => Refusal::Malformed,
        })?;
        self.check(body.claims, certificate, seconds(now))
    }

    fn check(&self, body: Body, certificate: Thumbprint, now: u64) -> Result<Claims, Refusal> {
        if body.iss.ok_or(Refusal::Missing("iss"))? != self.issuer {
            return Err(Refusal::Issuer);
        }
        if body.aud.ok_or(Refusal::Missing("aud"))? != self.audience {
            return Err(Refusal::Audience);
        }
        let expires = body.exp.ok_or(Refusal::Missing("exp"))?;
        let begins = body.nbf.ok_or(Refusal::Missing("nbf"))?;
        let id = body.jti.ok_or(Refusal::Missing("jti"))?;
        let subject = body.sub.ok_or(Refusal::Missing("sub"))?;
        let bound = body.cnf.and_then(|cnf| cnf.certificate);
        let bound = bound.ok_or(Refusal::Missing("cnf"))?;
        if now.saturating_add(SKEW.as_secs()) < begins {
            return Err(Refusal::Early);
        }
        if now >= expires.saturating_add(SKEW.as_secs()) {
            return Err(Refusal::Expired);
        }
        if expires.saturating_sub(begins) > MAX_LIFE.as_secs() {
            return Err(Refusal::Life);
        }
        if bound != certificate.encode() {
            return Err(Refusal::Certificate);
        }
        self.check_subject(&subject)?;
        let scopes = body.scope.split_whitespace().map(str::to_owned).collect();
        Ok(Claims {
            subject,
            scopes,
            id,
            expires: UNIX_EPOCH + Duration::from_secs(expires),
        })
    }

    #[cfg(feature = "identity")]
    fn check_subject(&self, subject: &str) -> Result<(), Refusal> {
        let Some(store) = &self.denied else {
            return Ok(());
        };
        let denied = store.denied();
        match SpiffeId::parse(subject) {
            Ok(id) if denied.denies_id(&id) => Err(Refusal::Denied),
            _ => Ok(()),
        }
    }

    #[cfg(not(feature = "identity"))]
    fn check_subject(&self, _: &str) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Only what says how and by which of our keys it is signed; `jku`, `x5u`, `jwk` and whatever else
/// is not looked at but refused.
fn check_header(header: &Header) -> Result<(), Refusal> {
    let fields = serde_json::to_value(header).map_err(|_| Refusal::Malformed)?;
    let fields = fields.as_object().ok_or(Refusal::Malformed)?;
    let allowed = |name: &String| ["alg", "kid", "typ"].contains(&name.as_str());
    if fields.keys().all(allowed) {
        Ok(())
    } else {
        Err(Refusal::Header)
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("keys", &self.keys.keys())
            .finish()
    }
}
