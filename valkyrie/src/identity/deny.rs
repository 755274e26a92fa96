//! Who may not connect although a trusted root vouches for them.
//! Must not close anything: whoever holds connections asks, again after each change.
//!
//! ```
//! use valkyrie::identity::{DenyList, SpiffeId};
//!
//! let stolen = SpiffeId::parse("spiffe://ci.example/ns/a/agent/1")?;
//! let denied = DenyList::new().id(stolen.clone());
//! assert!(denied.denies_id(&stolen));
//! # Ok::<(), valkyrie::identity::IdentityError>(())
//! ```

use std::collections::HashSet;

use super::SpiffeId;
#[cfg(any(feature = "net", test))]
use super::verify::Leaf;

/// A certificate's serial number: big-endian, without leading zeros.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// Of these bytes; leading zeros mean nothing.
    pub fn new(bytes: &[u8]) -> Self {
        let first = bytes.iter().position(|byte| *byte != 0);
        Self(bytes[first.unwrap_or(bytes.len())..].into())
    }

    /// Reads hexadecimal digits, with or without colons between them, as `openssl x509 -serial`
    /// and browsers show them; none when it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let mut digits = digits.filter(|digits| !digits.is_empty())?;
        if digits.len() % 2 == 1 {
            digits.insert(0, 0);
        }
        let bytes: Vec<u8> = digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect();
        Some(Self::new(&bytes))
    }
}

impl std::fmt::Display for Serial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Serial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// SHA-256 of a public key as it stands in a certificate (SubjectPublicKeyInfo, DER).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyPrint(pub [u8; 32]);

impl std::fmt::Debug for KeyPrint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPrint(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// By which entry of a [`DenyList`] a peer is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Its id.
    Id,
    /// The serial number of its certificate.
    Serial,
    /// The key of its certificate.
    Key,
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Denial::Id => "its id is denied",
            Denial::Serial => "its certificate is denied",
            Denial::Key => "its key is denied",
        })
    }
}

/// Ids, certificates and keys that may not connect; a value, replaced as a whole in an
/// [`IdentityStore`](super::IdentityStore).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    ids: HashSet<SpiffeId>,
    serials: HashSet<Serial>,
    keys: HashSet<KeyPrint>,
}

impl DenyList {
    /// Denies nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Denies a peer, whatever its certificate.
    #[must_use]
    pub fn id(mut self, id: SpiffeId) -> Self {
        self.ids.insert(id);
        self
    }

    /// Denies one certificate; its owner may come with another one.
    #[must_use]
    pub fn serial(mut self, serial: Serial) -> Self {
        self.serials.insert(serial);
        self
    }

    /// Denies a key in whatever certificate.
    #[must_use]
    pub fn key(mut self, key: KeyPrint) -> Self {
        self.keys.insert(key);
        self
    }

    /// Whether nobody is denied.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.serials.is_empty() && self.keys.is_empty()
    }

    /// Whether this peer is denied, whatever its certificate.
    pub fn denies_id(&self, id: &SpiffeId) -> bool {
        self.ids.contains(id)
    }

    /// Why this peer is denied, if it is.
    #[cfg(any(feature = "net", test))]
    pub(crate) fn denies(&self, id: Option<&SpiffeId>, leaf: Option<&Leaf>) -> Option<Denial> {
        if id.is_some_and(|id| self.denies_id(id)) {
            return Some(Denial::Id);
        }
        let leaf = leaf?;
        if self.serials.contains(&leaf.serial) {
            return Some(Denial::Serial);
        }
        self.keys.contains(&leaf.key).then_some(Denial::Key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::{Authority, TrustDomain};
    use super::*;

    #[test]
    fn a_serial_is_read_as_it_is_shown() {
        let serial = Serial::new(&[0, 0x0a, 0xff]);
        assert_eq!(serial.to_string(), "0aff");
        for text in ["0aff", "AFF", "00:0A:FF", "0AFF"] {
            assert_eq!(Serial::parse(text), Some(serial.clone()), "{text}");
        }
        for text in ["", ":", "0x1f", "12 34", "gg", "ä"] {
            assert_eq!(Serial::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_peer_is_denied_by_its_id_its_certificate_or_its_key_and_by_nothing_else() {
        let domain = TrustDomain::parse("ci.example").unwrap();
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let authority = Authority::generate(domain.clone(), now, hour).unwrap();
        let id = domain.member("ns/a/agent/1").unwrap();
        let shown = authority.credentials(&id, &[], now, hour).unwrap();
        let renewed = authority.credentials(&id, &[], now, hour).unwrap();
        let denies = |list: &DenyList, of: &super::super::Credentials| {
            list.denies(Some(of.id()), Some(of.leaf()))
        };
        let by_id = DenyList::new().id(id);
        assert_eq!(denies(&by_id, &shown), Some(Denial::Id));
        assert_eq!(denies(&by_id, &renewed), Some(Denial::Id));
        let by_serial = DenyList::new().serial(shown.serial().clone());
        assert_eq!(denies(&by_serial, &shown), Some(Denial::Serial));
        assert_eq!(denies(&by_serial, &renewed), None);
        let by_key = DenyList::new().key(shown.key());
        assert_eq!(denies(&by_key, &shown), Some(Denial::Key));
        assert_eq!(denies(&by_key, &renewed), None);
        assert_eq!(denies(&DenyList::new(), &shown), None);
        assert!(DenyList::new().is_empty() && !by_key.is_empty());
    }
}
