//! How often one address may begin a handshake, before anything is spent on it.
//! Must not do I/O nor read a clock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::limits::Rate;
use crate::qos::TokenBucket;

/// Addresses remembered in each of both tables. Beyond it an unproved address must prove itself,
/// and proved ones share one bucket.
const ADDRESSES: usize = 4096;

/// The buckets of all addresses. Proved and unproved peers are counted apart: whoever forges a
/// sender can use up only what peers with that address may do before they prove it.
pub(super) struct Gate {
    rate: Rate,
    proved: HashMap<Origin, TokenBucket>,
    unproved: HashMap<Origin, TokenBucket>,
    rest: TokenBucket,
}

/// Who shares a bucket: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin(u128);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_bits().into()),
            // An IPv4 address has no bit above the 32nd; a global /64 has.
            IpAddr::V6(v6) => Self(v6.to_bits() >> 64 << 64),
        }
    }
}

impl Gate {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            proved: HashMap::new(),
            unproved: HashMap::new(),
            rest: TokenBucket::new(rate, now),
        }
    }

    /// Whether this address may begin one more handshake now.
    pub(super) fn pass(&mut self, from: IpAddr, proved: bool, now: Instant) -> bool {
        let origin = Origin::from(from);
        let table = if proved {
            &mut self.proved
        } else {
            &mut self.unproved
        };
        if table.len() >= ADDRESSES && !table.contains_key(&origin) {
            table.retain(|_, bucket| !bucket.is_full(now));
        }
        if table.len() >= ADDRESSES && !table.contains_key(&origin) {
            return proved && self.rest.take(1, now);
        }
        let fresh = || TokenBucket::new(self.rate, now);
        table.entry(origin).or_insert_with(fresh).take(1, now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    #[test]
    fn one_address_uses_up_only_its_own_share() {
        let now = Instant::now();
        let mut gate = Gate::new(Rate::new(1, 2), now);
        assert!(gate.pass(v4(1), true, now) && gate.pass(v4(1), true, now));
        assert!(!gate.pass(v4(1), true, now));
        assert!(gate.pass(v4(2), true, now));
        assert!(gate.pass(v4(1), true, now + Duration::from_secs(1)));
    }

    #[test]
    fn forged_senders_do_not_lock_out_the_address_they_name() {
        let now = Instant::now();
        let mut gate = Gate::new(Rate::new(1, 2), now);
        for _ in 0..100 {
            gate.pass(v4(1), false, now);
        }
        assert!(!gate.pass(v4(1), false, now), "it must prove itself");
        assert!(gate.pass(v4(1), true, now), "and then it may");
    }

    #[test]
    fn a_whole_ipv6_network_is_one_origin_and_a_mapped_address_is_ipv4() {
        let now = Instant::now();
        let mut gate = Gate::new(Rate::new(1, 1), now);
        let in_net = |host: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, host));
        assert!(gate.pass(in_net(1), true, now));
        assert!(!gate.pass(in_net(2), true, now));
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 8, 0, 0, 0, 1);
        assert!(gate.pass(other.into(), true, now));
        assert!(gate.pass(v4(5), true, now));
        let mapped = Ipv4Addr::from_bits(0x0a00_0005).to_ipv6_mapped();
        assert!(!gate.pass(mapped.into(), true, now));
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_the_table_nor_locks_out_all_others() {
        let now = Instant::now();
        let mut gate = Gate::new(Rate::new(1, 2), now);
        for number in 0..3 * ADDRESSES as u32 {
            gate.pass(v4(number), true, now);
            gate.pass(v4(number), false, now);
        }
        assert_eq!(
            (gate.proved.len(), gate.unproved.len()),
            (ADDRESSES, ADDRESSES)
        );
        assert!(!gate.pass(v4(0x00ff_0000), false, now), "must prove itself");
        let later = now + Duration::from_secs(1);
        assert!(gate.pass(v4(0x00ff_0000), true, later));
        assert_eq!(gate.proved.len(), 1, "full buckets are forgotten");
    }
}
