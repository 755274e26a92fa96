//! Tokens that prove that their bearer may read a run, and so its logs.
//! Must not compare tokens in a time that depends on them.

/// The key of all tokens of an installation; kept in the authority's Secret.
#[derive(Clone)]
pub struct LogKey([u8; 32]);

impl LogKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads a key back; none when it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The key itself, for the Secret.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The token of a run, in hexadecimal.
    pub fn token(&self, namespace: &str, run_uid: &str) -> String {
        self.code(namespace, run_uid).to_hex().to_string()
    }

    /// True when `token` is that of the run; compared in constant time.
    pub fn verifies(&self, token: &str, namespace: &str, run_uid: &str) -> bool {
        // The comparison of two `blake3::Hash`es takes the same time for all values.
        blake3::Hash::from_hex(token).is_ok_and(|given| given == self.code(namespace, run_uid))
    }

    /// BLAKE3 in its keyed mode is a message authentication code. Neither part can hold a `/`.
    fn code(&self, namespace: &str, run_uid: &str) -> blake3::Hash {
        blake3::keyed_hash(
            &self.0,
            format!("rustci log {namespace}/{run_uid}").as_bytes(),
        )
    }
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_run_alone() {
        let key = LogKey::generate();
        let token = key.token("team-a", "0b1f");
        assert!(key.verifies(&token, "team-a", "0b1f"));
        assert!(!key.verifies(&token, "team-b", "0b1f"));
        assert!(!key.verifies(&token, "team-a", "0b20"));
        assert!(!key.verifies("", "team-a", "0b1f"));
        assert!(!key.verifies(&token[..63], "team-a", "0b1f"));
        assert!(!LogKey::generate().verifies(&token, "team-a", "0b1f"));
    }

    #[test]
    fn a_key_survives_its_secret_and_is_not_shown() {
        let key = LogKey::generate();
        let read = LogKey::from_bytes(key.as_bytes()).unwrap();
        assert!(read.verifies(&key.token("n", "u"), "n", "u"));
        assert!(LogKey::from_bytes(b"short").is_none());
        assert_eq!(format!("{key:?}"), "LogKey(..)");
    }
}
