//! Join tokens: each lets one peer into one pool, once, for a short time.
//! Must not keep a token: only its digest, and that not longer than it counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use thiserror::Error;

use super::{IssueReply, IssueRequest, RenewRequest};
use crate::error::{CallError, Code};
use crate::identity::{Authority, CertificateDer, IdentityError, SpiffeId, TrustBundle};

/// How a token begins, so that scanners for secrets can find one.
const PREFIX: &str = "vkj1";
/// Longest life of a token.
const MAX_LIFE: Duration = Duration::from_secs(86_400);
/// For the digest of tokens.
const CONTEXT: &str = "valkyrie 2026-11 join token at rest";

/// A token in transit. Neither `Debug` nor anything else shows it but [`JoinToken::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(String);

impl JoinToken {
    /// A token that came from elsewhere.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// Its text, for whoever is to join.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinToken(redacted)")
    }
}

/// What is kept of a token; a line of text at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinEntry {
    /// Names the token, and whoever joined by it.
    pub id: String,
    /// Whom it lets in where.
    pub pool: String,
    /// Until when.
    pub expires: SystemTime,
    digest: blake3::Hash,
}

impl JoinEntry {
    /// `ID POOL SECONDS DIGEST`, to be kept and given to [`JoinTokens::restore`].
    pub fn to_line(&self) -> String {
        let expires = self.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = expires.as_secs();
        format!("{} {} {seconds} {}", self.id, self.pool, self.digest)
    }

    /// Reads such a line; none when it is something else.
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(' ');
        let mut next = || parts.next();
        let (id, pool, seconds, digest) = (next()?, next()?, next()?, next()?);
        let whole = next().is_none() && is_hex(id, 16) && is_pool(pool);
        whole.then_some(())?;
        let seconds = Duration::from_secs(seconds.parse().ok()?);
        Some(Self {
            id: id.to_owned(),
            pool: pool.to_owned(),
            expires: UNIX_EPOCH.checked_add(seconds)?,
            digest: blake3::Hash::from_hex(digest).ok()?,
        })
    }
}

/// Why a token does not count; the peer is told no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum JoinRefusal {
    /// Not a join token.
    #[error("it is not a join token")]
    Malformed,
    /// Never issued, used before, or forgotten because it ended.
    #[error("the join token is not known, or was used")]
    Unknown,
    /// It has ended.
    #[error("the join token has expired")]
    Expired,
}

/// No room for another token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many join tokens wait to be used")]
pub struct TokensFull;

/// The tokens that wait to be used; bounded: when full, no other is issued until one is used or
/// ends.
#[derive(Debug)]
pub struct JoinTokens {
    entries: HashMap<String, JoinEntry>,
    capacity: usize,
}

impl JoinTokens {
    /// Room for so many.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            capacity,
        }
    }

    /// Takes in what was kept at rest.
    pub fn restore(&mut self, entries: impl IntoIterator<Item = JoinEntry>) {
        for entry in entries {
            self.entries.insert(entry.id.clone(), entry);
        }
    }

    /// What is to be kept at rest.
    pub fn entries(&self) -> impl Iterator<Item = &JoinEntry> {
        self.entries.values()
    }

    /// A token for one peer of a pool (a DNS label), for `life`, one day at most. `random` must
    /// come from a generator fit for keys.
    ///
    /// # Errors
    /// When there is no room.
    ///
    /// # Panics
    /// When `pool` is not a DNS label: it becomes a part of SPIFFE ids.
    pub fn issue(
        &mut self,
        pool: &str,
        life: Duration,
        now: SystemTime,
        random: [u8; 40],
    ) -> Result<JoinToken, TokensFull> {
        assert!(is_pool(pool), "a pool's name is a DNS label");
        self.entries.retain(|_, entry| entry.expires > now);
        if self.entries.len() >= self.capacity {
            return Err(TokensFull);
        }
        let (id, secret) = random.split_at(8);
        let (id, secret) = (hex(id), hex(secret));
        let entry = JoinEntry {
            id: id.clone(),
            pool: pool.to_owned(),
            expires: now + life.min(MAX_LIFE),
            digest: digest(&secret),
        };
        self.entries.insert(id.clone(), entry);
        Ok(JoinToken(format!("{PREFIX}.{id}.{secret}")))
    }

    /// Uses a token up: it counts once. The caller keeps the change at rest before it acts on it.
    ///
    /// # Errors
    /// When it does not count.
    pub fn redeem(&mut self, token: &str, now: SystemTime) -> Result<JoinEntry, JoinRefusal> {
        let id = self.check(token, now)?.id.clone();
        self.entries.remove(&id).ok_or(JoinRefusal::Unknown)
    }

    /// What a token would count for; it still does afterwards.
    fn check(&self, token: &str, now: SystemTime) -> Result<&JoinEntry, JoinRefusal> {
        let mut parts = token.split('.');
        let mut next = || parts.next();
        let (Some(PREFIX), Some(id), Some(secret), None) = (next(), next(), next(), next()) else {
            return Err(JoinRefusal::Malformed);
        };
        if !is_hex(id, 16) || !is_hex(secret, 64) {
            return Err(JoinRefusal::Malformed);
        }
        let entry = self.entries.get(id).ok_or(JoinRefusal::Unknown)?;
        // Digests compare in constant time.
        if entry.digest != digest(secret) {
            return Err(JoinRefusal::Unknown);
        }
        match entry.expires > now {
            true => Ok(entry),
            false => Err(JoinRefusal::Expired),
        }
    }
}

/// The server's side of joining: certificates for whoever holds a join token, and again for
/// whoever holds such a certificate. A member's id is
/// `spiffe://<trust domain>/pool/<pool>/agent/<token's id>`.
pub struct JoinDesk {
    authority: Arc<Authority>,
    life: Duration,
    tokens: Mutex<JoinTokens>,
}

impl JoinDesk {
    /// Issues certificates of this life, by this authority.
    pub fn new(authority: Arc<Authority>, life: Duration, capacity: usize) -> Self {
        Self {
            authority,
            life,
            tokens: Mutex::new(JoinTokens::new(capacity)),
        }
    }

    /// The tokens that wait to be used, to add one or to keep them at rest.
    pub fn tokens(&self) -> parking_lot::MutexGuard<'_, JoinTokens> {
        self.tokens.lock()
    }

    /// A first certificate. The token is used up only by a request that can be signed, and before
    /// it is; so no two peers get in by one token, and a peer that garbled its request can repeat
    /// it. What has changed is to be kept at rest before the reply leaves.
    ///
    /// # Errors
    /// `Unauthenticated` for a token that does not count, `InvalidArgument` for a bad request.
    pub fn issue(&self, request: &IssueRequest, now: SystemTime) -> Result<IssueReply, CallError> {
        let mut tokens = self.tokens.lock();
        let entry = tokens.check(&request.token, now).map_err(unknown)?;
        let id = self.member(&entry.pool, &entry.id)?;
        let chain = self.sign(&request.csr_der, &id, now)?;
        tokens.redeem(&request.token, now).map_err(unknown)?;
        Ok(self.reply(chain))
    }

    /// The next certificate of a member.
    ///
    /// # Errors
    /// `PermissionDenied` for a peer that is no member of a pool, `InvalidArgument` for a bad
    /// request.
    pub fn renew(
        &self,
        peer: &SpiffeId,
        request: &RenewRequest,
        now: SystemTime,
    ) -> Result<IssueReply, CallError> {
        let segments: Vec<_> = peer.segments().collect();
        if !matches!(segments[..], ["pool", _, "agent", _]) {
            let detail = "only members of a pool are renewed here";
            return Err(CallError::new(Code::PermissionDenied, detail));
        }
        Ok(self.reply(self.sign(&request.csr_der, peer, now)?))
    }

    fn member(&self, pool: &str, id: &str) -> Result<SpiffeId, CallError> {
        let path = format!("pool/{pool}/agent/{id}");
        let id = self.authority.trust_domain().member(&path);
        id.map_err(|error| CallError::new(Code::Internal, error.to_string()))
    }

    fn sign(
        &self,
        csr: &[u8],
        id: &SpiffeId,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, CallError> {
        let signed = self.authority.issue(csr, id, &[], now, self.life);
        signed.map_err(|error| {
            let code = match error {
                IdentityError::Request(_) => Code::InvalidArgument,
                _ => Code::Internal,
            };
            CallError::new(code, error.to_string())
        })
    }

    fn reply(&self, chain: Vec<CertificateDer<'static>>) -> IssueReply {
        IssueReply {
            chain_der: chain.into_iter().map(|one| one.to_vec()).collect(),
            bundle_pem: self.authority.root_pem(),
        }
    }

    /// Whom members trust.
    ///
    /// # Errors
    /// When the authority's own root cannot be read, which would be a defect.
    pub fn bundle(&self) -> Result<TrustBundle, IdentityError> {
        let domain = self.authority.trust_domain().clone();
        TrustBundle::from_pem(domain, &self.authority.root_pem())
    }
}

/// The peer does not learn whether a token ever was one.
fn unknown(refusal: JoinRefusal) -> CallError {
    tracing::warn!(%refusal, "a join token was refused");
    CallError::new(Code::Unauthenticated, "the join token does not count")
}

fn digest(secret: &str) -> blake3::Hash {
    blake3::derive_key(CONTEXT, secret.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_hex(text: &str, length: usize) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == length && text.bytes().all(digit)
}

fn is_pool(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = name.as_bytes();
    name.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| inner(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(900);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn token(tokens: &mut JoinTokens, seed: u8) -> JoinToken {
        tokens.issue("docker", LIFE, now(), [seed; 40]).unwrap()
    }

    #[test]
    fn a_token_counts_once_for_its_pool_and_not_after_its_time() {
        let mut tokens = JoinTokens::new(8);
        let (one, two) = (token(&mut tokens, 1), token(&mut tokens, 2));
        let joined = tokens.redeem(one.reveal(), now()).unwrap();
        assert_eq!((joined.pool.as_str(), joined.id.len()), ("docker", 16));
        let again = tokens.redeem(one.reveal(), now());
        assert_eq!(again, Err(JoinRefusal::Unknown));
        let late = tokens.redeem(two.reveal(), now() + LIFE);
        assert_eq!(late, Err(JoinRefusal::Expired));
    }

    #[test]
    fn nothing_but_the_whole_token_counts() {
        let mut tokens = JoinTokens::new(8);
        let right = token(&mut tokens, 7).reveal().to_owned();
        let other = right.replace("07.", "08.");
        let wrong = format!("{}8", &right[..right.len() - 1]);
        for (text, refusal) in [
            (other.as_str(), JoinRefusal::Unknown),
            (wrong.as_str(), JoinRefusal::Unknown),
            ("", JoinRefusal::Malformed),
            (&right[1..], JoinRefusal::Malformed),
            (&right.to_uppercase(), JoinRefusal::Malformed),
            (&format!("{right}."), JoinRefusal::Malformed),
        ] {
            assert_eq!(tokens.redeem(text, now()), Err(refusal), "{text}");
        }
        assert!(tokens.redeem(&right, now()).is_ok());
    }

    #[test]
    fn what_is_kept_at_rest_has_no_secret_and_comes_back() {
        let mut tokens = JoinTokens::new(8);
        let token = token(&mut tokens, 0x5a);
        let lines: Vec<_> = tokens.entries().map(JoinEntry::to_line).collect();
        assert!(!lines[0].contains(&"5a".repeat(32)), "{lines:?}");
        assert!(!format!("{tokens:?}{token:?}").contains(&"5a".repeat(32)));
        let mut restored = JoinTokens::new(8);
        restored.restore(lines.iter().map(|line| JoinEntry::parse(line).unwrap()));
        assert!(restored.redeem(token.reveal(), now()).is_ok());
        for line in ["", "x y 1 z", &format!("{} more", lines[0])] {
            assert_eq!(JoinEntry::parse(line), None, "{line}");
        }
    }

    #[test]
    fn tokens_that_wait_are_bounded_and_ended_ones_make_room() {
        let mut tokens = JoinTokens::new(2);
        token(&mut tokens, 1);
        token(&mut tokens, 2);
        let full = tokens.issue("docker", LIFE, now(), [3; 40]);
        assert_eq!(full, Err(TokensFull));
        let later = now() + LIFE;
        assert!(tokens.issue("docker", LIFE, later, [3; 40]).is_ok());
        let long = tokens
            .issue("docker", MAX_LIFE * 9, later, [4; 40])
            .unwrap();
        let refused = tokens.redeem(long.reveal(), later + MAX_LIFE);
        assert_eq!(refused, Err(JoinRefusal::Expired), "a day at most");
    }

    #[test]
    fn a_pool_is_a_dns_label() {
        for name in ["docker", "a", "a-1"] {
            assert!(is_pool(name), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a/b", "a.b", "a b", &"a".repeat(64)] {
            assert!(!is_pool(name), "{name}");
        }
    }
}
