//! A token that counts, and each way in which one does not.
//! Must not use the system's clock.

use jsonwebtoken::EncodingKey;
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://operator.example";
const AUDIENCE: &str = "artifacts";

struct World {
    edwards: KeyPair,
    curve: KeyPair,
    verifier: Verifier,
}

fn world() -> World {
    let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let curve = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let verifier = Verifier::new(ISSUER, AUDIENCE)
        .key("ed-1", Algorithm::EdDsa, edwards.der_bytes())
        .key("ec-1", Algorithm::Es256, curve.der_bytes());
    World {
        edwards,
        curve,
        verifier,
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn mine() -> Thumbprint {
    Thumbprint::of(b"the certificate of this connection")
}

fn grant() -> Grant {
    Grant {
        subject: "spiffe://test.example/ns/team/agent/a".into(),
        audience: AUDIENCE.into(),
        scopes: vec!["put".into(), "get".into()],
        certificate: mine(),
        life: Duration::from_secs(300),
        id: "token-1".into(),
    }
}

fn header() -> Value {
    json!({"alg": "EdDSA", "kid": "ed-1", "typ": "JWT"})
}

fn body() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "agent", "jti": "token-2", "scope": "get",
        "nbf": NOW, "exp": NOW + 300, "cnf": {"x5t#S256": mine().encode()},
    })
}

impl World {
    /// Signs any header and body with the Ed25519 key.
    fn forge(&self, header: &Value, body: &Value) -> Token {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(body));
        let key = EncodingKey::from_ed_der(&self.edwards.serialize_der());
        let algorithm = jsonwebtoken::Algorithm::EdDSA;
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
        Token::new(format!("{message}.{signature}"))
    }

    fn verdict(&self, token: &Token) -> Result<Claims, Refusal> {
        self.verifier.verify(token, mine(), at(NOW))
    }

    fn with_body(&self, name: &str, value: Value) -> Result<Claims, Refusal> {
        let mut body = body();
        body[name] = value;
        self.verdict(&self.forge(&header(), &body))
    }
}

#[test]
fn a_token_counts_with_either_algorithm_and_says_what_it_allows() {
    let world = world();
    let keys = [
        ("ed-1", Algorithm::EdDsa, &world.edwards),
        ("ec-1", Algorithm::Es256, &world.curve),
    ];
    for (id, algorithm, key) in keys {
        let signer = Signer::new(ISSUER, id, algorithm, &key.serialize_der()).unwrap();
        let token = signer.sign(&grant(), at(NOW)).unwrap();
        let claims = world.verdict(&token).unwrap();
        assert_eq!(claims.scopes, ["put", "get"]);
        assert_eq!(
            (claims.id.as_str(), claims.expires),
            ("token-1", at(NOW + 300))
        );
        assert_eq!(claims.subject, grant().subject);
    }
    assert!(world.verdict(&world.forge(&header(), &body())).is_ok());
}

#[test]
fn headers_that_lead_elsewhere_are_refused() {
    let world = world();
    let strange = [
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/chain")),
        ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
    ];
    for (name, value) in strange {
        let mut header = header();
        header[name] = value;
        let refused = world.verdict(&world.forge(&header, &body()));
        assert_eq!(refused, Err(Refusal::Header), "{name}");
    }
}

#[test]
fn only_known_keys_with_their_own_algorithm_count() {
    let world = world();
    let with = |header: Value| world.verdict(&world.forge(&header, &body()));
    let refused = with(json!({"alg": "EdDSA", "kid": "ed-2"}));
    assert_eq!(refused, Err(Refusal::Key));
    assert_eq!(with(json!({"alg": "EdDSA"})), Err(Refusal::Key));
    for alg in ["HS256", "ES256", "RS256", "ES384"] {
        let refused = with(json!({"alg": alg, "kid": "ed-1"}));
        assert_eq!(refused, Err(Refusal::Algorithm), "{alg}");
    }
    assert_eq!(
        with(json!({"alg": "none", "kid": "ed-1"})),
        Err(Refusal::Malformed)
    );
    let other = Verifier::new(ISSUER, AUDIENCE).key("ed-1", Algorithm::EdDsa, &[7; 32]);
    let refused = other.verify(&world.forge(&header(), &body()), mine(), at(NOW));
    assert_eq!(refused, Err(Refusal::Signature));
    // A public key must not serve as a shared secret.
    let secret = EncodingKey::from_secret(world.edwards.der_bytes());
    let mut confused = Header::new(jsonwebtoken::Algorithm::HS256);
    confused.kid = Some("ed-1".into());
    let token = jsonwebtoken::encode(&confused, &body(), &secret).unwrap();
    assert_eq!(world.verdict(&Token::new(token)), Err(Refusal::Algorithm));
}

#[test]
fn every_claim_must_be_there_and_of_its_type() {
    let world = world();
    for name in ["iss", "aud", "exp", "nbf", "jti", "sub", "cnf"] {
        let refused = world.with_body(name, Value::Null);
        assert_eq!(refused, Err(Refusal::Missing(name)));
    }
    assert_eq!(
        world.with_body("cnf", json!({})),
        Err(Refusal::Missing("cnf"))
    );
    for (name, value) in [("exp", json!("soon")), ("aud", json!([AUDIENCE, "other"]))] {
        assert_eq!(
            world.with_body(name, value),
            Err(Refusal::Malformed),
            "{name}"
        );
    }
    assert_eq!(world.with_body("iss", json!("other")), Err(Refusal::Issuer));
    assert_eq!(
        world.with_body("aud", json!("other")),
        Err(Refusal::Audience)
    );
}

#[test]
fn a_token_counts_for_its_time_and_a_minute_around_it_and_never_for_long() {
    let world = world();
    let token = world.forge(&header(), &body());
    let verdict = |seconds| {
        let claims = world.verifier.verify(&token, mine(), at(seconds));
        claims.map(|_| ())
    };
    assert_eq!(verdict(NOW - 61), Err(Refusal::Early));
    assert_eq!(verdict(NOW - 60), Ok(()));
    assert_eq!(verdict(NOW + 359), Ok(()));
    assert_eq!(verdict(NOW + 360), Err(Refusal::Expired));
    assert_eq!(world.with_body("exp", json!(NOW + 600)).map(|_| ()), Ok(()));
    assert_eq!(world.with_body("exp", json!(NOW + 601)), Err(Refusal::Life));
    assert_eq!(world.with_body("exp", json!(u64::MAX)), Err(Refusal::Life));
}

#[test]
fn a_token_counts_only_with_the_certificate_that_it_was_given_to() {
    let world = world();
    let token = world.forge(&header(), &body());
    let thief = Thumbprint::of(b"another certificate");
    let refused = world.verifier.verify(&token, thief, at(NOW));
    assert_eq!(refused, Err(Refusal::Certificate));
}

#[test]
fn a_signer_makes_no_token_that_lives_too_long_or_allows_more_than_it_says() {
    let world = world();
    let der = world.edwards.serialize_der();
    let signer = Signer::new(ISSUER, "ed-1", Algorithm::EdDsa, &der).unwrap();
    let long = Grant {
        life: Duration::from_secs(601),
        ..grant()
    };
    assert_eq!(signer.sign(&long, at(NOW)), Err(SignError::Life));
    for scope in ["get put", ""] {
        let wide = Grant {
            scopes: vec![scope.into()],
            ..grant()
        };
        assert_eq!(signer.sign(&wide, at(NOW)), Err(SignError::Scope));
    }
    let wrong = Signer::new(ISSUER, "ec-1", Algorithm::Es256, &der);
    assert_eq!(wrong.unwrap_err(), SignError::Key);
}

#[test]
fn nothing_that_is_printed_shows_a_token() {
    let token = Token::new("eyJ.secret.signature");
    assert_eq!(format!("{token:?}"), "Token(redacted)");
    let der = world().edwards.serialize_der();
    let signer = Signer::new(ISSUER, "ed-1", Algorithm::EdDsa, &der).unwrap();
    assert!(!format!("{signer:?}").contains("content"));
}

proptest! {
    #[test]
    fn a_changed_token_never_counts(at_byte in any::<prop::sample::Index>(), bit in 0_u8..6) {
        let world = world();
        let mut text = world.forge(&header(), &body()).reveal().as_bytes().to_vec();
        let position = at_byte.index(text.len());
        text[position] ^= 1 << bit;
        if let Ok(text) = String::from_utf8(text) {
            prop_assert!(world.verdict(&Token::new(text)).is_err());
        }
    }

    #[test]
    fn no_text_makes_the_verifier_panic(text in ".{0,300}") {
        prop_assert!(world().verdict(&Token::new(text)).is_err());
    }

    #[test]
    fn a_long_text_is_not_even_read(length in MAX_TOKEN + 1..MAX_TOKEN * 2) {
        let refused = world().verdict(&Token::new("a".repeat(length)));
        prop_assert_eq!(refused, Err(Refusal::TooLong));
    }
}

#[cfg(feature = "identity")]
#[test]
fn a_token_of_a_denied_subject_does_not_count_from_that_moment_on() {
    use crate::identity::{DenyList, IdentityStore, SpiffeId, TrustBundle};
    let subject = SpiffeId::parse(&grant().subject).unwrap();
    let bundle = TrustBundle::empty(subject.trust_domain().clone());
    let store = IdentityStore::anonymous(bundle);
    let mut world = world();
    world.verifier = world.verifier.denied(store.clone());
    let key = world.edwards.serialize_der();
    let signer = Signer::new(ISSUER, "ed-1", Algorithm::EdDsa, &key).unwrap();
    let token = signer.sign(&grant(), at(NOW)).unwrap();
    assert!(world.verdict(&token).is_ok());
    store.replace_denied(DenyList::new().id(subject));
    assert_eq!(world.verdict(&token), Err(Refusal::Denied));
    store.replace_denied(DenyList::new());
    assert!(world.verdict(&token).is_ok());
}
