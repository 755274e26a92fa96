//! What was announced, until it is withdrawn or not renewed.
//! Must not grow without bound, nor read a clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Member, Query};

/// Announcements of all services; at `capacity` members new ones are refused.
#[derive(Clone, Debug)]
pub struct Directory {
    capacity: usize,
    members: BTreeMap<(String, String), Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    member: Member,
    until: Option<Instant>,
}

/// What an announcement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that a query sees.
    None,
    /// The service has other members now, or other labels, load or leader.
    Changed,
}

/// The directory has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the directory has no room for another member")]
pub struct Full;

impl Directory {
    /// An empty directory for so many members.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            members: BTreeMap::new(),
        }
    }

    /// A member says that it is there, for a time or until it is withdrawn. The same instance
    /// again replaces what it said before.
    ///
    /// # Errors
    /// When there is no room for a new one.
    pub fn announce(
        &mut self,
        service: &str,
        member: Member,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<Change, Full> {
        let key = (service.to_owned(), member.instance.clone());
        if self.members.len() >= self.capacity && !self.members.contains_key(&key) {
            return Err(Full);
        }
        let until = ttl.map(|ttl| now + ttl);
        let entry = Entry {
            member: member.clone(),
            until,
        };
        let before = self.members.insert(key, entry);
        Ok(match before {
            Some(before) if before.member == member => Change::None,
            _ => Change::Changed,
        })
    }

    /// A member goes.
    pub fn withdraw(&mut self, service: &str, instance: &str) -> Change {
        let key = (service.to_owned(), instance.to_owned());
        match self.members.remove(&key) {
            Some(_) => Change::Changed,
            None => Change::None,
        }
    }

    /// Whether a member is there.
    pub fn contains(&self, service: &str, instance: &str) -> bool {
        let key = (service.to_owned(), instance.to_owned());
        self.members.contains_key(&key)
    }

    /// Forgets members that were not renewed; returns their services.
    pub fn expire(&mut self, now: Instant) -> Vec<String> {
        let over = |entry: &mut Entry| entry.until.is_some_and(|until| now >= until);
        let gone = self.members.extract_if(.., |_, entry| over(entry));
        let mut services: Vec<_> = gone.map(|((service, _), _)| service).collect();
        services.dedup();
        services
    }

    /// When the next member is to be forgotten.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.members.values().filter_map(|entry| entry.until).min()
    }

    /// The members that a query wants, by name.
    pub fn resolve(&self, query: &Query) -> Vec<Member> {
        let from = (query.service.clone(), String::new());
        self.members
            .range(from..)
            .take_while(|((service, _), _)| *service == query.service)
            .map(|(_, entry)| &entry.member)
            .filter(|member| query.matches(member))
            .cloned()
            .collect()
    }
}
