//! Members from a headless name: each address that it resolves to is one. The system's resolver
//! is used, so search lists, `hosts` and caching are those of the machine.
//! Must not lose the members because one look-up failed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Announced, Member, Query, Registry, RegistryError};

/// Resolves `host` or `host:port` names; labels, load and leaders are not known to DNS, so a
/// query with labels finds nobody.
#[derive(Clone, Debug)]
pub struct DnsRegistry {
    port: u16,
    interval: Duration,
}

impl DnsRegistry {
    /// Looks again after `interval`; `port` is for names without one.
    pub fn new(port: u16, interval: Duration) -> Self {
        Self { port, interval }
    }

    async fn look_up(&self, query: &Query) -> Result<Vec<Member>, RegistryError> {
        let service = &query.service;
        let name = match service.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => service.clone(),
            _ => format!("{service}:{}", self.port),
        };
        let found = tokio::net::lookup_host(name).await;
        let found = found.map_err(|error| RegistryError::Source {
            service: service.clone(),
            message: error.to_string(),
        })?;
        let named = found.map(|address| (address.to_string(), address));
        let by_name: BTreeMap<String, SocketAddr> = named.collect();
        let members = by_name
            .into_iter()
            .map(|(name, address)| Member::new(name, vec![address]));
        Ok(members.filter(|member| query.matches(member)).collect())
    }
}

#[async_trait]
impl Registry for DnsRegistry {
    async fn announce(&self, _: &str, _: Member) -> Result<Announced, RegistryError> {
        Err(RegistryError::ReadOnly)
    }

    async fn resolve(&self, query: &Query) -> Result<Vec<Member>, RegistryError> {
        self.look_up(query).await
    }

    /// Must be called within a tokio runtime; the look-ups end with the receiver.
    async fn watch(&self, query: &Query) -> Result<watch::Receiver<Vec<Member>>, RegistryError> {
        let (sender, receiver) = watch::channel(self.look_up(query).await?);
        let (registry, query) = (self.clone(), query.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    () = tokio::time::sleep(registry.interval) => {}
                }
                match registry.look_up(&query).await {
                    Ok(now) => {
                        sender.send_if_modified(|before| {
                            let changed = *before != now;
                            *before = now;
                            changed
                        });
                    }
                    Err(error) => tracing::warn!(%error, "the last known members stay"),
                }
            }
        });
        Ok(receiver)
    }
}
