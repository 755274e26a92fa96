//! SPIFFE ids and trust domains, parsed strictly.
//! Must not know certificates.

use super::IdentityError;

/// Longest id in bytes, by the SPIFFE specification (SPIFFE-ID section 2.3).
const MAX_ID: usize = 2048;
/// Longest trust domain in bytes, by the same section.
const MAX_TRUST_DOMAIN: usize = 255;

/// The name of an administrative domain: `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Reads `cluster.local`.
    ///
    /// # Errors
    /// When the text is empty, too long, or holds other characters than `a-z 0-9 . - _`.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let valid = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        if text.is_empty() || text.len() > MAX_TRUST_DOMAIN || !text.bytes().all(valid) {
            return Err(IdentityError::TrustDomain(text.chars().take(80).collect()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a member: `path` without a leading slash.
    ///
    /// # Errors
    /// When the path is not one of a SPIFFE id.
    pub fn member(&self, path: &str) -> Result<SpiffeId, IdentityError> {
        SpiffeId::parse(&format!("spiffe://{}/{path}", self.0))
    }
}

impl std::fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a peer: `spiffe://cluster.local/ns/default/agent/4f1c`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: String,
}

impl SpiffeId {
    /// Reads an id. The path must not be empty: a trust domain alone names no peer.
    ///
    /// # Errors
    /// When the text is not a SPIFFE id; there is no normalisation.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let refuse = |why| IdentityError::SpiffeId {
            text: text.chars().take(80).collect(),
            why,
        };
        if text.len() > MAX_ID {
            return Err(refuse("longer than 2048 bytes"));
        }
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or(refuse("must start with spiffe://"))?;
        let (domain, path) = rest.split_once('/').ok_or(refuse("has no path"))?;
        let trust_domain = TrustDomain::parse(domain).map_err(|_| refuse("bad trust domain"))?;
        for segment in path.split('/') {
            if segment.is_empty() || segment == "." || segment == ".." {
                return Err(refuse("has an empty or relative path segment"));
            }
            let valid =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if !segment.bytes().all(valid) {
                return Err(refuse(
                    "path segments take letters, digits, '.', '-' and '_'",
                ));
            }
        }
        Ok(Self {
            trust_domain,
            path: format!("/{path}"),
        })
    }

    /// Its trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its path with the leading slash: `/ns/default/agent/4f1c`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The parts of its path: `ns`, `default`, `agent`, `4f1c`.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').skip(1)
    }
}

impl std::fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

impl std::str::FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl std::str::FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_into_its_parts() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/team-a/agent/4f1c").unwrap();
        assert_eq!(id.trust_domain().as_str(), "cluster.local");
        assert_eq!(id.path(), "/ns/team-a/agent/4f1c");
        assert_eq!(
            id.segments().collect::<Vec<_>>(),
            ["ns", "team-a", "agent", "4f1c"]
        );
        assert_eq!(
            id.to_string(),
            "spiffe://cluster.local/ns/team-a/agent/4f1c"
        );
    }

    #[test]
    fn anything_that_could_be_read_two_ways_is_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///ns/x",
            "spiffe://TD/x",
            "https://td/x",
            "SPIFFE://td/x",
            "spiffe://td/a//b",
            "spiffe://td/a/../b",
            "spiffe://td/./b",
            "spiffe://td/a/",
            "spiffe://td/a%2fb",
            "spiffe://td/a?b",
            "spiffe://td/a#b",
            "spiffe://user@td/a",
            "spiffe://td:1/a",
            "spiffe://td/ä",
            "spiffe://td/a b",
        ] {
            assert!(SpiffeId::parse(text).is_err(), "{text:?} was accepted");
        }
        assert!(SpiffeId::parse(&format!("spiffe://td/{}", "a".repeat(2048))).is_err());
    }
}
