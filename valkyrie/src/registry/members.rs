//! The asynchronous face of a registry, and the one that lives within a process.
//! Must not keep a member longer than it was announced for.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

use super::{Change, Directory, Full, Member, Query};

/// Why a registry cannot answer.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// It has no room.
    #[error(transparent)]
    Full(#[from] Full),
    /// It only reads.
    #[error("this registry takes no announcements")]
    ReadOnly,
    /// It cannot hold such a service or member.
    #[error("this cannot be announced or asked for: {0}")]
    Unfit(String),
    /// Its source cannot be asked now.
    #[error("cannot reach the registry of {service}: {message}")]
    Source {
        /// What was asked for.
        service: String,
        /// What the source said.
        message: String,
    },
}

/// Where services are announced and found. Other crates may bring their own.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Says that a member is there, until the handle is dropped.
    async fn announce(&self, service: &str, member: Member) -> Result<Announced, RegistryError>;

    /// The members that are there now.
    async fn resolve(&self, query: &Query) -> Result<Vec<Member>, RegistryError>;

    /// The members and their changes. A slow reader sees the newest state, never a queue.
    async fn watch(&self, query: &Query) -> Result<watch::Receiver<Vec<Member>>, RegistryError>;
}

/// An announcement; dropping it withdraws the member.
#[must_use = "dropping it withdraws the member"]
pub struct Announced {
    withdraw: Option<Box<dyn FnOnce() + Send>>,
}

impl Announced {
    /// An announcement that is taken back by this.
    pub fn new(withdraw: impl FnOnce() + Send + 'static) -> Self {
        Self {
            withdraw: Some(Box::new(withdraw)),
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(withdraw) = self.withdraw.take() {
            withdraw();
        }
    }
}

impl std::fmt::Debug for Announced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Announced")
    }
}

/// Members that are known within the process: from configuration, or announced.
#[derive(Clone)]
pub struct StaticRegistry {
    inner: Arc<Mutex<Inner>>,
}

type Watch = (Query, watch::Sender<Vec<Member>>);

struct Inner {
    directory: Directory,
    watches: HashMap<String, Vec<Watch>>,
    /// Numbers the announcements, so that an old handle withdraws no newer one.
    announcements: HashMap<(String, String), u64>,
    last: u64,
}

impl StaticRegistry {
    /// An empty one for so many members.
    pub fn new(capacity: usize) -> Self {
        let inner = Inner {
            directory: Directory::new(capacity),
            watches: HashMap::new(),
            announcements: HashMap::new(),
            last: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Puts a member in, for a time or until it is replaced.
    ///
    /// # Errors
    /// When there is no room.
    pub fn insert(
        &self,
        service: &str,
        member: Member,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<(), Full> {
        self.inner
            .lock()
            .insert(service, member, ttl, now)
            .map(drop)
    }

    /// Forgets members that were not renewed; to be called when the next one is due.
    pub fn expire(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.inner.lock();
        for service in inner.directory.expire(now) {
            inner.tell(&service);
        }
        let Inner {
            directory,
            announcements,
            ..
        } = &mut *inner;
        announcements.retain(|(service, instance), _| directory.contains(service, instance));
        directory.next_expiry()
    }
}

#[cfg(test)]
impl StaticRegistry {
    pub(super) fn numbered(&self) -> usize {
        self.inner.lock().announcements.len()
    }
}

impl Inner {
    fn insert(
        &mut self,
        service: &str,
        member: Member,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<u64, Full> {
        let key = (service.to_owned(), member.instance.clone());
        if self.directory.announce(service, member, ttl, now)? == Change::Changed {
            self.tell(service);
        }
        self.last += 1;
        self.announcements.insert(key, self.last);
        Ok(self.last)
    }

    fn withdraw(&mut self, key: &(String, String), number: u64) {
        if self.announcements.get(key) == Some(&number) {
            self.announcements.remove(key);
            self.directory.withdraw(&key.0, &key.1);
            self.tell(&key.0);
        }
    }

    fn tell(&mut self, service: &str) {
        let Some(watches) = self.watches.get_mut(service) else {
            return;
        };
        watches.retain(|(_, sender)| sender.receiver_count() > 0);
        for (query, sender) in watches {
            let now = self.directory.resolve(query);
            sender.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }
}

#[async_trait]
impl Registry for StaticRegistry {
    async fn announce(&self, service: &str, member: Member) -> Result<Announced, RegistryError> {
        let key = (service.to_owned(), member.instance.clone());
        let number = self
            .inner
            .lock()
            .insert(service, member, None, Instant::now())?;
        let inner: Weak<_> = Arc::downgrade(&self.inner);
        Ok(Announced::new(move || {
            if let Some(inner) = inner.upgrade() {
                inner.lock().withdraw(&key, number);
            }
        }))
    }

    async fn resolve(&self, query: &Query) -> Result<Vec<Member>, RegistryError> {
        Ok(self.inner.lock().directory.resolve(query))
    }

    async fn watch(&self, query: &Query) -> Result<watch::Receiver<Vec<Member>>, RegistryError> {
        let mut inner = self.inner.lock();
        let (sender, receiver) = watch::channel(inner.directory.resolve(query));
        let watches = inner.watches.entry(query.service.clone()).or_default();
        watches.retain(|(_, sender)| sender.receiver_count() > 0);
        watches.push((query.clone(), sender));
        Ok(receiver)
    }
}
