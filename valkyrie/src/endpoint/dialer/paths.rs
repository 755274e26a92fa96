//! Which way worked in which network, so that a blocked one does not cost its head start each time.
//! Must not remember for ever: networks change, and the preferred way may open again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::target::Target;
use crate::transport::TransportKind;

/// How long a way that worked goes first; then the preferred one is tried first again.
const MEMORY: Duration = Duration::from_secs(600);
/// Networks and servers remembered; when full, the oldest is forgotten.
const MOST: usize = 64;

/// What dialers of one process know about the ways to their servers; cheap to clone and share.
#[derive(Clone, Default)]
pub struct Paths {
    known: Arc<Mutex<HashMap<Place, Known>>>,
}

/// From which address of this machine, to which servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    from: Option<IpAddr>,
    to: Vec<(TransportKind, Option<SocketAddr>)>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    index: usize,
    at: Instant,
}

impl Place {
    /// Where this machine stands towards these targets.
    pub(super) fn of(targets: &[Target]) -> Self {
        let to: Vec<_> = targets
            .iter()
            .map(|target| (target.kind(), target.address()))
            .collect();
        let from = to
            .iter()
            .find_map(|(_, address)| *address)
            .and_then(source_address);
        Self { from, to }
    }
}

/// The own address that packets to this one would carry; nothing is sent.
fn source_address(to: SocketAddr) -> Option<IpAddr> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

impl Paths {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The targets in the order to try them: what worked here lately, then as preferred.
    pub(super) fn order(&self, place: &Place, now: Instant) -> Vec<usize> {
        let mut order: Vec<usize> = (0..place.to.len()).collect();
        let known = self.known.lock().get(place).copied();
        if let Some(known) = known
            && now.saturating_duration_since(known.at) < MEMORY
            && known.index < order.len()
        {
            order.remove(known.index);
            order.insert(0, known.index);
        }
        order
    }

    /// This one worked.
    pub(super) fn won(&self, place: &Place, index: usize, now: Instant) {
        let mut known = self.known.lock();
        if index == 0 {
            // The preferred one goes first anyway.
            known.remove(place);
            return;
        }
        if known.len() >= MOST && !known.contains_key(place) {
            let oldest = known.iter().min_by_key(|(_, known)| known.at);
            if let Some(oldest) = oldest.map(|(place, _)| place.clone()) {
                known.remove(&oldest);
            }
        }
        known.insert(place.clone(), Known { index, at: now });
    }

    /// This one came up, but did not carry a handshake: the one after it goes first now.
    pub(super) fn failed(&self, place: &Place, index: usize, now: Instant) {
        if let Some(next) = (index + 1).checked_rem(place.to.len()) {
            self.won(place, next, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> Place {
        let to = |kind| (kind, Some(SocketAddr::from(([127, 0, 0, 1], port))));
        Place {
            from: Some(IpAddr::from([10, 0, 0, 7])),
            to: vec![
                to(TransportKind::Quic),
                to(TransportKind::Tcp),
                to(TransportKind::WebSocket),
            ],
        }
    }

    #[test]
    fn the_way_that_worked_goes_first_for_a_while_in_its_network() {
        let (paths, now) = (Paths::new(), Instant::now());
        let here = place(1);
        assert_eq!(paths.order(&here, now), [0, 1, 2]);
        paths.won(&here, 2, now);
        let later = now + MEMORY - Duration::from_secs(1);
        assert_eq!(paths.order(&here, later), [2, 0, 1]);
        assert_eq!(paths.order(&here, now + MEMORY), [0, 1, 2]);
        let elsewhere = Place {
            from: Some(IpAddr::from([10, 1, 0, 7])),
            ..here.clone()
        };
        assert_eq!(paths.order(&elsewhere, later), [0, 1, 2]);
    }

    #[test]
    fn a_way_that_failed_lets_the_next_one_go_first() {
        let (paths, now) = (Paths::new(), Instant::now());
        let here = place(1);
        paths.failed(&here, 0, now);
        assert_eq!(paths.order(&here, now), [1, 0, 2]);
        paths.failed(&here, 1, now);
        assert_eq!(paths.order(&here, now), [2, 0, 1]);
        paths.failed(&here, 2, now);
        assert_eq!(paths.order(&here, now), [0, 1, 2]);
    }

    #[test]
    fn the_preferred_way_needs_no_memory() {
        let (paths, now) = (Paths::new(), Instant::now());
        let here = place(1);
        paths.won(&here, 1, now);
        paths.won(&here, 0, now);
        assert_eq!(paths.order(&here, now), [0, 1, 2]);
        assert!(paths.known.lock().is_empty());
    }

    #[test]
    fn no_more_places_than_the_bound_are_remembered() {
        let (paths, now) = (Paths::new(), Instant::now());
        for port in 0..200 {
            paths.won(&place(port), 1, now + Duration::from_secs(port.into()));
        }
        assert_eq!(paths.known.lock().len(), MOST);
        let later = now + Duration::from_secs(200);
        assert_eq!(paths.order(&place(199), later), [1, 0, 2]);
        assert_eq!(paths.order(&place(0), later), [0, 1, 2]);
    }
}
