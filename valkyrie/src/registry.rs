//! Who offers a service, where, and which of them to call: announce, resolve, watch, pick.
//! Must not know how a member is dialed: whoever connects says that.
//!
//! [`Directory`] holds what was announced, [`Picker`] chooses by load and keeps failing members
//! out; both take the time and randomness as parameters. The back ends behind the `net` feature
//! feed them: [`StaticRegistry`] within a process, [`DnsRegistry`] from a headless name, and with
//! the feature `kubernetes` `KubernetesRegistry` from the objects of a namespace. `Reach` does it
//! all, from a service's name to a session.
//!
//! ```
//! use valkyrie::registry::{Member, Query};
//!
//! let address = "10.0.0.7:4433".parse().expect("an address");
//! let mut member = Member::new("hub-0", vec![address]);
//! member.labels.insert("zone".into(), "a".into());
//! assert!(Query::service("hub").label("zone", "a").matches(&member));
//! assert!(!Query::service("hub").label("zone", "b").matches(&member));
//! ```

mod directory;
#[cfg(feature = "net")]
mod dns;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(feature = "net")]
mod members;
mod outlier;
mod pick;
#[cfg(feature = "net")]
mod reach;
#[cfg(test)]
mod tests;

pub use directory::{Change, Directory, Full};
#[cfg(feature = "net")]
pub use dns::DnsRegistry;
#[cfg(feature = "kubernetes")]
pub use kubernetes::KubernetesRegistry;
#[cfg(feature = "net")]
pub use members::{Announced, Registry, RegistryError, StaticRegistry};
pub use outlier::{OutlierPolicy, Outliers};
pub use pick::Picker;
#[cfg(feature = "net")]
pub use reach::Reach;

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One that offers a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, unique within the service.
    pub instance: String,
    /// Where it listens, in order of preference.
    pub addresses: Vec<SocketAddr>,
    /// What it can, for queries.
    pub labels: BTreeMap<String, String>,
    /// How busy it says it is: 0 for idle, 1000 for full.
    pub load: u16,
    /// Its leadership's number when it says that it leads, else 0. The highest one leads.
    pub epoch: u64,
}

impl Member {
    /// An idle member without labels that does not lead.
    pub fn new(instance: impl Into<String>, addresses: Vec<SocketAddr>) -> Self {
        Self {
            instance: instance.into(),
            addresses,
            labels: BTreeMap::new(),
            load: 0,
            epoch: 0,
        }
    }
}

/// Which members are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The service.
    pub service: String,
    /// Labels that must all be there with these values.
    pub labels: BTreeMap<String, String>,
}

impl Query {
    /// Every member of a service.
    pub fn service(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            labels: BTreeMap::new(),
        }
    }

    /// Only those with this label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Whether a member of the service is wanted.
    pub fn matches(&self, member: &Member) -> bool {
        self.labels
            .iter()
            .all(|(name, value)| member.labels.get(name) == Some(value))
    }
}

/// The member that leads: the one with the highest epoch, if any says that it leads.
pub fn leader(members: &[Member]) -> Option<&Member> {
    let leading = members.iter().filter(|member| member.epoch > 0);
    leading.max_by_key(|member| member.epoch)
}
