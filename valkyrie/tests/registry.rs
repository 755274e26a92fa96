//! The registry's back ends that need nothing but this machine, by the suite of all back ends.
//! Must not need a cluster: the back end for Kubernetes is put through it where there is one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "quic")]
#[path = "registry/reach.rs"]
mod reach;
#[path = "registry/suite.rs"]
mod suite;

use std::sync::Arc;
use std::time::Duration;

use valkyrie::registry::{DnsRegistry, StaticRegistry};

#[tokio::test]
async fn the_static_registry_conforms() {
    suite::reads_and_writes(Arc::new(StaticRegistry::new(100))).await;
}

#[tokio::test]
async fn the_dns_registry_conforms() {
    let registry = DnsRegistry::new(7420, Duration::from_secs(3600));
    suite::only_reads(Arc::new(registry), "localhost").await;
}
