//! The sessions a server knows: who owns each, by which secret it is continued, until when.
//! Must not hold connections: `T` is whatever the endpoint keeps with a session.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::wire::SessionId;

/// The secret that continues a session; shown only to its owner and never printed.
#[derive(Clone)]
pub struct Secret(pub [u8; 32]);

impl Secret {
    /// Compares in constant time.
    pub fn matches(&self, other: &Secret) -> bool {
        let difference = self
            .0
            .iter()
            .zip(other.0)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// What the dialing side keeps to continue a session.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The session.
    pub id: SessionId,
    /// Its secret.
    pub secret: Secret,
}

/// The table of a server, bounded: when it is full, the session that has been without a
/// connection for longest is given up; when all are connected, a new one is refused.
#[derive(Debug)]
pub struct Sessions<P, T> {
    entries: HashMap<SessionId, Entry<P, T>>,
    window: Duration,
    capacity: usize,
    connections: u64,
}

#[derive(Debug)]
struct Entry<P, T> {
    peer: P,
    secret: Secret,
    connection: u64,
    detached: Option<Instant>,
    value: T,
}

/// The outcome of a new connection.
#[derive(Debug)]
pub struct Attached<T> {
    /// Number of this connection, for [`Sessions::detach`].
    pub connection: u64,
    /// Whether it continues a session.
    pub resumed: bool,
    /// The session and its secret.
    pub ticket: Ticket,
    /// What is kept with the session.
    pub value: T,
    /// A session that was given up to make room.
    pub evicted: Option<(SessionId, T)>,
}

/// The table is full of connected sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<P: PartialEq, T: Clone> Sessions<P, T> {
    /// An empty table.
    pub fn new(window: Duration, capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            window,
            capacity,
            connections: 0,
        }
    }

    /// A peer connected, perhaps with the ticket of an earlier session. The ticket counts only
    /// with its secret, for the peer it was given to, and within the window; otherwise the
    /// connection gets `fresh` with the value that `make` returns.
    ///
    /// # Errors
    /// When there is no room.
    pub fn attach(
        &mut self,
        peer: P,
        shown: Option<&Ticket>,
        fresh: Ticket,
        make: impl FnOnce() -> T,
        now: Instant,
    ) -> Result<Attached<T>, Full> {
        self.connections += 1;
        let connection = self.connections;
        if let Some(ticket) = shown
            && let Some(entry) = self.entries.get_mut(&ticket.id)
            && entry.peer == peer
            && entry.secret.matches(&ticket.secret)
            && entry.detached.is_none_or(|since| now < since + self.window)
        {
            entry.connection = connection;
            entry.detached = None;
            let value = entry.value.clone();
            let ticket = ticket.clone();
            return Ok(Attached {
                connection,
                resumed: true,
                ticket,
                value,
                evicted: None,
            });
        }
        let evicted = if self.entries.len() < self.capacity {
            None
        } else {
            Some(self.evict()?)
        };
        let value = make();
        let entry = Entry {
            peer,
            secret: fresh.secret.clone(),
            connection,
            detached: None,
            value: value.clone(),
        };
        self.entries.insert(fresh.id, entry);
        Ok(Attached {
            connection,
            resumed: false,
            ticket: fresh,
            value,
            evicted,
        })
    }

    /// A connection broke; the session waits for the next one. Does nothing when a newer
    /// connection has taken over; returns whether it did something.
    pub fn detach(&mut self, id: SessionId, connection: u64, now: Instant) -> bool {
        match self.entries.get_mut(&id) {
            Some(entry) if entry.connection == connection => {
                entry.detached = Some(now);
                true
            }
            _ => false,
        }
    }

    /// A session is over.
    pub fn remove(&mut self, id: SessionId) -> Option<T> {
        self.entries.remove(&id).map(|entry| entry.value)
    }

    /// Gives up the sessions whose window has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<(SessionId, T)> {
        let window = self.window;
        let over = |entry: &Entry<P, T>| entry.detached.is_some_and(|since| now >= since + window);
        self.entries
            .extract_if(|_, entry| over(entry))
            .map(|(id, entry)| (id, entry.value))
            .collect()
    }

    /// When the next session is to be given up.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.entries
            .values()
            .filter_map(|entry| entry.detached)
            .min()
            .map(|at| at + self.window)
    }

    /// What is kept with a session.
    pub fn value(&self, id: SessionId) -> Option<&T> {
        self.entries.get(&id).map(|entry| &entry.value)
    }

    /// What is kept with every session.
    pub fn values(&self) -> impl Iterator<Item = (SessionId, &T)> {
        self.entries.iter().map(|(id, entry)| (*id, &entry.value))
    }

    /// How many sessions are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn evict(&mut self) -> Result<(SessionId, T), Full> {
        let detached = self
            .entries
            .iter()
            .filter_map(|(id, entry)| Some((entry.detached?, *id)));
        let (_, id) = detached.min().ok_or(Full)?;
        let entry = self.entries.remove(&id).ok_or(Full)?;
        Ok((id, entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(number: u8) -> Ticket {
        Ticket {
            id: SessionId([number; 16]),
            secret: Secret([number; 32]),
        }
    }

    fn table(capacity: usize) -> Sessions<&'static str, u8> {
        Sessions::new(Duration::from_secs(60), capacity)
    }

    #[test]
    fn a_session_is_continued_by_its_owner_with_its_secret_within_the_window() {
        let now = Instant::now();
        let secs = Duration::from_secs;
        let mut sessions = table(10);
        let first = sessions.attach("anna", None, ticket(1), || 1, now).unwrap();
        assert!(!first.resumed);
        assert!(sessions.detach(first.ticket.id, first.connection, now));
        assert_eq!(sessions.next_expiry(), Some(now + secs(60)));

        let stolen = sessions
            .attach("bert", Some(&ticket(1)), ticket(2), || 2, now)
            .unwrap();
        assert!(!stolen.resumed, "another peer");
        let guess = Ticket {
            id: SessionId([1; 16]),
            secret: Secret([9; 32]),
        };
        let guessed = sessions
            .attach("anna", Some(&guess), ticket(3), || 3, now)
            .unwrap();
        assert!(!guessed.resumed, "another secret");

        let back = sessions.attach("anna", Some(&ticket(1)), ticket(4), || 4, now + secs(59));
        let back = back.unwrap();
        assert_eq!(
            (back.resumed, back.value, back.ticket.id),
            (true, 1, SessionId([1; 16]))
        );
        sessions.detach(back.ticket.id, back.connection, now + secs(59));
        let late = sessions.attach("anna", Some(&ticket(1)), ticket(5), || 5, now + secs(119));
        assert!(!late.unwrap().resumed, "too late");
    }

    #[test]
    fn the_end_of_a_replaced_connection_does_not_detach_its_session() {
        let now = Instant::now();
        let mut sessions = table(10);
        let old = sessions.attach("anna", None, ticket(1), || 1, now).unwrap();
        let new = sessions
            .attach("anna", Some(&ticket(1)), ticket(2), || 2, now)
            .unwrap();
        assert!(new.resumed);
        assert!(!sessions.detach(SessionId([1; 16]), old.connection, now));
        assert_eq!(sessions.next_expiry(), None);
        assert!(sessions.detach(SessionId([1; 16]), new.connection, now));
    }

    #[test]
    fn sessions_without_a_connection_expire_once() {
        let now = Instant::now();
        let mut sessions = table(10);
        let first = sessions.attach("anna", None, ticket(1), || 1, now).unwrap();
        sessions.attach("bert", None, ticket(2), || 2, now).unwrap();
        sessions.detach(first.ticket.id, first.connection, now);
        assert_eq!(sessions.expire(now + Duration::from_secs(59)), []);
        assert_eq!(
            sessions.expire(now + Duration::from_secs(60)),
            [(SessionId([1; 16]), 1)]
        );
        assert_eq!(sessions.expire(now + Duration::from_secs(61)), []);
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn a_full_table_gives_up_the_longest_broken_session_and_never_a_live_one() {
        let now = Instant::now();
        let secs = Duration::from_secs;
        let mut sessions = table(2);
        let first = sessions.attach("anna", None, ticket(1), || 1, now).unwrap();
        let second = sessions.attach("bert", None, ticket(2), || 2, now).unwrap();
        assert_eq!(
            sessions
                .attach("carl", None, ticket(3), || 3, now)
                .unwrap_err(),
            Full
        );
        sessions.detach(second.ticket.id, second.connection, now + secs(1));
        sessions.detach(first.ticket.id, first.connection, now + secs(2));
        let third = sessions
            .attach("carl", None, ticket(3), || 3, now + secs(3))
            .unwrap();
        assert_eq!(third.evicted, Some((SessionId([2; 16]), 2)));
    }
}
