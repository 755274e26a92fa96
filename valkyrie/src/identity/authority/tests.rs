//! Issuing, checking and rotating certificates; every time is made up.
//! Must not need a network: the handshake tests have one.

use super::*;
use crate::identity::verify::{Usage, chain};
use crate::identity::{IdentityStore, TrustBundle};

const HOUR: Duration = Duration::from_secs(3600);

/// A whole second, as certificates have them.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn authority() -> Authority {
    Authority::generate(TrustDomain::parse("t.example").unwrap(), now(), 100 * HOUR).unwrap()
}

fn bundle(authority: &Authority) -> TrustBundle {
    TrustBundle::from_pem(authority.trust_domain().clone(), &authority.root_pem()).unwrap()
}

fn agent() -> SpiffeId {
    SpiffeId::parse("spiffe://t.example/ns/a/agent/1").unwrap()
}

#[test]
fn a_certificate_is_issued_for_a_request_and_checked_against_the_root() {
    let authority = authority();
    let request = KeyRequest::generate().unwrap();
    let dns = ["hub.example".to_owned()];
    let issued = authority
        .issue(request.csr_der(), &agent(), &dns, now(), HOUR)
        .unwrap();
    let credentials = request.into_credentials(issued.clone()).unwrap();
    assert_eq!(credentials.id(), &agent());
    assert_eq!(credentials.expires_at(), now() + HOUR);
    let life = HOUR + CLOCK_SKEW;
    assert_eq!(credentials.renew_at(), now() - CLOCK_SKEW + life * 2 / 3);
    for usage in [Usage::Client, Usage::Server] {
        let leaf = chain(&bundle(&authority), &issued[0], &[], now(), usage).unwrap();
        assert_eq!(leaf.id, agent());
    }
}

#[test]
fn a_certificate_counts_only_between_its_dates() {
    let authority = authority();
    let request = KeyRequest::generate().unwrap();
    let issued = authority
        .issue(request.csr_der(), &agent(), &[], now(), HOUR)
        .unwrap();
    let at = |time| chain(&bundle(&authority), &issued[0], &[], time, Usage::Client);
    assert!(at(now() - CLOCK_SKEW).is_ok());
    assert!(at(now() + HOUR).is_ok());
    let expired = at(now() + HOUR + Duration::from_secs(1)).unwrap_err();
    assert_eq!(expired.to_string(), "certificate refused: it has expired");
    let early = at(now() - CLOCK_SKEW - Duration::from_secs(1)).unwrap_err();
    assert_eq!(
        early.to_string(),
        "certificate refused: it is not valid yet"
    );
}

#[test]
fn a_certificate_never_outlives_its_root() {
    let authority = authority();
    let request = KeyRequest::generate().unwrap();
    let late = now() + 99 * HOUR;
    let issued = authority
        .issue(request.csr_der(), &agent(), &[], late, 9 * HOUR)
        .unwrap();
    let credentials = request.into_credentials(issued).unwrap();
    assert_eq!(credentials.expires_at(), authority.expires_at());
}

#[test]
fn an_authority_comes_back_from_its_pem_and_not_with_another_key() {
    let first = authority();
    let (certificate, key) = first.to_pem();
    let second = Authority::from_pem(&certificate, &key).unwrap();
    assert_eq!(second.trust_domain(), first.trust_domain());
    assert_eq!(second.expires_at(), first.expires_at());
    let credentials = second.credentials(&agent(), &[], now(), HOUR).unwrap();
    assert_eq!(credentials.id(), &agent());
    let (_, other) = authority().to_pem();
    assert!(Authority::from_pem(&certificate, &other).is_err());
    assert!(Authority::from_pem("", &key).is_err());
}

#[test]
fn requests_that_are_broken_or_for_another_domain_are_refused() {
    let authority = authority();
    let request = KeyRequest::generate().unwrap();
    let foreign = SpiffeId::parse("spiffe://other.example/a").unwrap();
    let result = authority.issue(request.csr_der(), &foreign, &[], now(), HOUR);
    assert!(matches!(result, Err(IdentityError::Foreign { .. })));
    let mut tampered = request.csr_der().to_vec();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    let result = authority.issue(&tampered, &agent(), &[], now(), HOUR);
    assert!(matches!(result, Err(IdentityError::Request(_))));
    let result = authority.issue(b"no request", &agent(), &[], now(), HOUR);
    assert!(matches!(result, Err(IdentityError::Request(_))));
}

#[test]
fn a_chain_for_another_key_makes_no_credentials() {
    let authority = authority();
    let (mine, other) = (
        KeyRequest::generate().unwrap(),
        KeyRequest::generate().unwrap(),
    );
    let issued = authority
        .issue(other.csr_der(), &agent(), &[], now(), HOUR)
        .unwrap();
    assert!(mine.into_credentials(issued).is_err());
    assert!(other.into_credentials(Vec::new()).is_err());
}

#[test]
fn roots_rotate_by_a_bundle_that_holds_both() {
    let (old, new) = (authority(), authority());
    let both = format!("{}\n{}", old.root_pem(), new.root_pem());
    let both = TrustBundle::from_pem(old.trust_domain().clone(), &both).unwrap();
    for issuer in [&old, &new] {
        let request = KeyRequest::generate().unwrap();
        let issued = issuer
            .issue(request.csr_der(), &agent(), &[], now(), HOUR)
            .unwrap();
        assert!(chain(&both, &issued[0], &[], now(), Usage::Client).is_ok());
    }
    let request = KeyRequest::generate().unwrap();
    let issued = old
        .issue(request.csr_der(), &agent(), &[], now(), HOUR)
        .unwrap();
    assert!(chain(&bundle(&new), &issued[0], &[], now(), Usage::Client).is_err());
}

#[test]
fn a_bundle_takes_roots_only() {
    let authority = authority();
    let domain = authority.trust_domain();
    assert!(TrustBundle::from_pem(domain.clone(), "").is_err());
    assert!(TrustBundle::from_pem(domain.clone(), "no PEM at all").is_err());
}

#[test]
fn a_replacement_is_seen_by_every_handle_of_a_store() {
    let authority = authority();
    let store = IdentityStore::anonymous(bundle(&authority));
    let other = store.clone();
    assert!(other.credentials().is_none());
    store.replace_credentials(authority.credentials(&agent(), &[], now(), HOUR).unwrap());
    assert_eq!(
        other.credentials().map(|shown| shown.id().clone()),
        Some(agent())
    );
}

#[test]
fn keys_are_never_printed() {
    let credentials = authority().credentials(&agent(), &[], now(), HOUR).unwrap();
    let printed = format!("{credentials:?}");
    assert!(
        printed.contains("/ns/a/agent/1") && !printed.contains("key"),
        "{printed}"
    );
}

#[test]
fn the_reset_secret_is_that_of_the_key_and_does_not_show() {
    let now = SystemTime::now();
    let domain = TrustDomain::parse("t.example").unwrap();
    let hour = Duration::from_secs(3600);
    let one = Authority::generate(domain.clone(), now, hour).unwrap();
    let other = Authority::generate(domain, now, hour).unwrap();
    let (certificate, key) = one.to_pem();
    let again = Authority::from_pem(&certificate, &key).unwrap();
    assert_eq!(one.reset_secret(), again.reset_secret());
    assert_ne!(one.reset_secret(), other.reset_secret());
    assert_eq!(format!("{:?}", one.reset_secret()), "ResetSecret(..)");
}
