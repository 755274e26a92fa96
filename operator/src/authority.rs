//! The certificate authority of an installation: what is kept, and when the next one takes over.
//! Must not talk to the cluster: `authority::keeper` does that.

pub mod keeper;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use valkyrie::identity::{Authority, IdentityError, TrustBundle, TrustDomain};

use crate::log_token::LogKey;

/// Lifetime of the certificates of agents and of the operator itself.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(3600);

/// What the Secret holds, read and checked.
#[derive(Clone)]
pub struct Stored {
    /// The authority that signs.
    pub current: Arc<Authority>,
    /// The one that will sign next: agents learn to trust it first.
    pub next: Option<Arc<Authority>>,
    /// Roots that signed before and are still valid, as PEM.
    pub previous_pem: String,
    /// Key of the log tokens.
    pub log_key: LogKey,
    /// Who may not connect any more, as an administrator wrote it; see [`crate::denied`].
    pub denied: String,
}

impl Stored {
    /// A new authority and a new key.
    pub fn generate(
        domain: TrustDomain,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Self, IdentityError> {
        Ok(Self {
            current: Arc::new(Authority::generate(domain, now, lifetime)?),
            next: None,
            previous_pem: String::new(),
            log_key: LogKey::generate(),
            denied: String::new(),
        })
    }

    /// Every root that agents and operator trust.
    pub fn bundle(&self) -> Result<TrustBundle, IdentityError> {
        let next = self
            .next
            .as_ref()
            .map(|next| next.root_pem())
            .unwrap_or_default();
        let pem = [self.current.root_pem(), next, self.previous_pem.clone()].join("\n");
        TrustBundle::from_pem(self.current.trust_domain().clone(), &pem)
    }
}

/// What comes after `stored`: `None` when nothing is to be done now.
///
/// At two thirds of an authority's life its successor is made and published in the bundle. It
/// signs from three quarters on: by then every agent has renewed and knows it. The old root stays
/// in the bundle, since certificates that it signed are in use.
pub fn rotate(
    stored: &Stored,
    now: SystemTime,
    lifetime: Duration,
) -> Result<Option<Stored>, IdentityError> {
    let left = |authority: &Authority| {
        authority
            .expires_at()
            .duration_since(now)
            .unwrap_or_default()
    };
    match &stored.next {
        None if left(&stored.current) <= lifetime / 3 => {
            let domain = stored.current.trust_domain().clone();
            let next = Authority::generate(domain, now, lifetime)?;
            Ok(Some(Stored {
                next: Some(Arc::new(next)),
                ..stored.clone()
            }))
        }
        Some(next) => {
            let known_for = lifetime.saturating_sub(left(next));
            let is_known = known_for >= lifetime / 12;
            let must = left(&stored.current) <= 2 * CERTIFICATE_LIFETIME;
            Ok((is_known || must).then(|| Stored {
                current: next.clone(),
                next: None,
                previous_pem: stored.current.root_pem(),
                log_key: stored.log_key.clone(),
                denied: stored.denied.clone(),
            }))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const LIFETIME: Duration = Duration::from_secs(360 * 86_400);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn stored() -> Stored {
        Stored::generate(TrustDomain::parse("ci.example").unwrap(), start(), LIFETIME).unwrap()
    }

    fn at(days: u32) -> SystemTime {
        start() + DAY * days
    }

    #[test]
    fn nothing_happens_before_two_thirds_of_the_life() {
        assert!(rotate(&stored(), at(239), LIFETIME).unwrap().is_none());
    }

    #[test]
    fn the_successor_is_trusted_before_it_signs_and_the_old_root_after() {
        let first = stored();
        let second = rotate(&first, at(241), LIFETIME).unwrap().unwrap();
        assert_eq!(second.current.root_pem(), first.current.root_pem());
        let next = second.next.clone().unwrap();
        assert!(
            second
                .bundle()
                .unwrap()
                .to_pem()
                .contains(next.root_pem().trim())
        );
        assert!(rotate(&second, at(260), LIFETIME).unwrap().is_none());

        let third = rotate(&second, at(272), LIFETIME).unwrap().unwrap();
        assert_eq!(third.current.root_pem(), next.root_pem());
        assert!(third.next.is_none());
        let bundle = third.bundle().unwrap().to_pem();
        assert!(bundle.contains(first.current.root_pem().trim()));
        let run = ("ns", "uid");
        assert!(
            third
                .log_key
                .verifies(&first.log_key.token(run.0, run.1), run.0, run.1)
        );
    }

    #[test]
    fn a_successor_that_comes_late_signs_before_the_old_root_ends() {
        let late = rotate(&stored(), at(359), LIFETIME).unwrap().unwrap();
        assert!(rotate(&late, at(359), LIFETIME).unwrap().is_none());
        let almost = at(360) - Duration::from_secs(3600);
        assert!(
            rotate(&late, almost, LIFETIME)
                .unwrap()
                .unwrap()
                .next
                .is_none()
        );
    }
}
