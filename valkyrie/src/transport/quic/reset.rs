//! Stateless resets that outlive the process (RFC 9000 section 10.3).
//! Must not be used by two servers at once that peers could confuse: each could end the other's
//! connections.

use std::sync::Arc;

use quinn::crypto::{CryptoError, HmacKey};
use quinn_proto::HashedConnectionIdGenerator;

use crate::identity::ResetSecret;

/// The settings of an endpoint whose successor, with the same secret, can end its connections:
/// tokens come from the secret, and the successor takes the connection ids for its own.
pub(super) fn config(secret: &ResetSecret) -> quinn::EndpointConfig {
    let tokens = TokenKey(secret.key_for("valkyrie 2026-11 reset tokens"));
    let ids = secret.key_for("valkyrie 2026-11 connection ids");
    let [a, b, c, d, e, f, g, h, ..] = ids;
    let ids = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let mut config = quinn::EndpointConfig::new(Arc::new(tokens));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

/// Makes reset tokens by keyed BLAKE3.
struct TokenKey([u8; 32]);

impl HmacKey for TokenKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = blake3::keyed_hash(&self.0, data);
        // In constant time.
        match blake3::Hash::from_slice(signature) {
            Ok(shown) if shown == expected => Ok(()),
            _ => Err(CryptoError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signature_of_the_key_is_verified() {
        let key = TokenKey([7; 32]);
        let mut signature = vec![0; key.signature_len()];
        key.sign(b"id", &mut signature);
        assert!(key.verify(b"id", &signature).is_ok());
        assert!(key.verify(b"other", &signature).is_err());
        assert!(key.verify(b"id", &signature[..31]).is_err());
        assert!(TokenKey([8; 32]).verify(b"id", &signature).is_err());
    }
}
