//! Capability tokens.
//! Must not accept a token that was not signed here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData};
use valkyrie::capability::{Algorithm, Grant, Signer, Thumbprint, Token, Verifier};

use super::named;

struct Parts {
    verifier: Verifier,
    token: String,
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn certificate() -> Thumbprint {
    Thumbprint::of(b"the certificate of the holder")
}

thread_local! {
    static PARTS: Parts = {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let verifier = Verifier::new("issuer", "audience");
        let verifier = verifier.key("one", Algorithm::EdDsa, key.der_bytes());
        let private = key.serialize_der();
        let signer = Signer::new("issuer", "one", Algorithm::EdDsa, &private).unwrap();
        let grant = Grant {
            subject: "spiffe://fuzz.example/ns/a/agent/1".into(),
            audience: "audience".into(),
            scopes: vec!["get".into()],
            certificate: certificate(),
            life: Duration::from_secs(300),
            id: "token-1".into(),
        };
        let token = signer.sign(&grant, now()).unwrap();
        Parts {
            verifier,
            token: token.reveal().to_owned(),
        }
    };
}

/// Only the very text that was signed counts, and only with its certificate and in its time.
pub(crate) fn token(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input).into_owned();
    PARTS.with(|parts| {
        let signed = text == parts.token;
        let token = Token::new(text);
        let verdict = parts.verifier.verify(&token, certificate(), now());
        assert_eq!(verdict.is_ok(), signed, "{verdict:?}");
        let another = Thumbprint::of(b"another certificate");
        assert!(parts.verifier.verify(&token, another, now()).is_err());
        let late = now() + Duration::from_secs(3600);
        assert!(parts.verifier.verify(&token, certificate(), late).is_err());
        named(verdict.err().map(|refusal| format!("{refusal:?}")))
    })
}

pub(crate) fn example() -> Vec<u8> {
    PARTS.with(|parts| parts.token.clone().into_bytes())
}
