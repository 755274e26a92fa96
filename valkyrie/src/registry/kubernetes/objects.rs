//! A member as the two objects that stand for it, and back.
//! Must not ask the API server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::super::{Member, RegistryError};

/// Who writes the objects, and the value of the label that says so.
pub(super) const MANAGER: &str = "valkyrie-registry";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const SERVICE: &str = "valkyrie.rustci.dev/service";
const INSTANCE: &str = "valkyrie.rustci.dev/instance";
const ADDRESSES: &str = "valkyrie.rustci.dev/addresses";
const LABELS: &str = "valkyrie.rustci.dev/labels";
const LOAD: &str = "valkyrie.rustci.dev/load";
const EPOCH: &str = "valkyrie.rustci.dev/epoch";
const ANNOUNCEMENT: &str = "valkyrie.rustci.dev/announcement";

/// Bytes of a DNS label.
const MAX_LABEL: usize = 63;
/// Bytes of the instance's name that are kept in the objects' name, for people.
const MAX_SHOWN: usize = 100;

/// What is written for one announcement.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    pub(super) service: String,
    /// Name of both objects.
    pub(super) name: String,
    /// Tells this announcement from others of the same instance.
    pub(super) announcement: String,
    member: Member,
    lease: Duration,
}

impl Objects {
    /// # Errors
    /// For a service that is no DNS label, and a member without an address.
    pub(super) fn new(
        service: &str,
        member: Member,
        lease: Duration,
    ) -> Result<Self, RegistryError> {
        check_service(service)?;
        if member.addresses.is_empty() || member.instance.is_empty() {
            let what = "a member has a name and an address".to_owned();
            return Err(RegistryError::Unfit(what));
        }
        Ok(Self {
            service: service.to_owned(),
            name: object_name(service, &member.instance),
            announcement: format!("{:016x}", rand::random::<u64>()),
            member,
            lease,
        })
    }

    /// Where the member is and what it can. A slice has one family of addresses: the one of the
    /// member's first address. All of them are in an annotation, in order.
    pub(super) fn slice(&self) -> EndpointSlice {
        let first = self.member.addresses[0];
        let ips = self
            .member
            .addresses
            .iter()
            .filter(|it| it.ip() == first.ip());
        let mut ports: Vec<u16> = ips.map(SocketAddr::port).collect();
        ports.dedup();
        let addresses = serde_json::to_string(&self.member.addresses).expect("plain values");
        let labels = serde_json::to_string(&self.member.labels).expect("plain values");
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(map([(SERVICE_NAME, &self.service), (MANAGED_BY, MANAGER)])),
                annotations: Some(map([
                    (INSTANCE, &self.member.instance),
                    (ADDRESSES, &addresses),
                    (LABELS, &labels),
                ])),
                ..ObjectMeta::default()
            },
            address_type: if first.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
            endpoints: vec![Endpoint {
                addresses: vec![first.ip().to_string()],
                conditions: Some(EndpointConditions {
                    ready: Some(true),
                    ..EndpointConditions::default()
                }),
                ..Endpoint::default()
            }],
            ports: Some(ports.iter().enumerate().flat_map(port).collect()),
        }
    }

    /// That it lives at this moment, how busy it is and whether it leads.
    pub(super) fn lease(&self, now: SystemTime) -> Lease {
        let seconds = i32::try_from(self.lease.as_secs()).unwrap_or(i32::MAX);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(map([(SERVICE, &self.service)])),
                annotations: Some(map([
                    (LOAD, &self.member.load.to_string()),
                    (EPOCH, &self.member.epoch.to_string()),
                    (ANNOUNCEMENT, &self.announcement),
                ])),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.member.instance.clone()),
                lease_duration_seconds: Some(seconds),
                renew_time: Some(micro_time(now)),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Whether the lease is of this announcement, not of a later one.
    pub(super) fn wrote(&self, lease: &Lease) -> bool {
        annotation(&lease.metadata, ANNOUNCEMENT) == Some(&self.announcement)
    }
}

/// A moment as the API server keeps it.
pub(super) fn micro_time(at: SystemTime) -> MicroTime {
    // A clock beyond the year 9999 stands for the last moment that can be written.
    MicroTime(Timestamp::try_from(at).unwrap_or(Timestamp::MAX))
}

/// The same port for both protocols: sessions over QUIC and TCP share a number.
fn port((at, port): (usize, &u16)) -> [EndpointPort; 2] {
    let of = |protocol: &str| {
        let name = protocol.to_lowercase();
        EndpointPort {
            name: Some(if at == 0 {
                name
            } else {
                format!("{name}-{at}")
            }),
            port: Some(i32::from(*port)),
            protocol: Some(protocol.to_owned()),
            ..EndpointPort::default()
        }
    };
    [of("UDP"), of("TCP")]
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    metadata.annotations.as_ref()?.get(name)
}

/// A service has the name that a Service of Kubernetes may have.
pub(super) fn check_service(service: &str) -> Result<(), RegistryError> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = !service.starts_with('-') && !service.ends_with('-');
    if edges && (1..=MAX_LABEL).contains(&service.len()) && service.chars().all(letters) {
        return Ok(());
    }
    let what = format!("{service:?} is not the name of a service: a DNS label is needed");
    Err(RegistryError::Unfit(what))
}

/// Readable as far as it can be, and told apart by the digest.
fn object_name(service: &str, instance: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let shown: String = instance.chars().take(MAX_SHOWN).map(letter).collect();
    let digest = blake3::hash(instance.as_bytes()).to_hex();
    format!("{service}-{shown}-{}", &digest[..10])
}

/// Selects the slices of a service, ours and the cluster's.
pub(super) fn slice_selector(service: &str) -> String {
    format!("{SERVICE_NAME}={service}")
}

/// Selects the leases of a service's members.
pub(super) fn lease_selector(service: &str) -> String {
    format!("{SERVICE}={service}")
}

/// What a slice says: one member of ours, whose lease says the rest, or members that the cluster
/// looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Announced(Member),
    Endpoints(Vec<Member>),
}

/// Reads a slice; of one that is broken nothing is taken.
pub(super) fn read_slice(slice: &EndpointSlice) -> Listed {
    let labels = slice.metadata.labels.as_ref();
    let manager = labels.and_then(|labels| labels.get(MANAGED_BY));
    if manager.is_none_or(|manager| manager != MANAGER) {
        return Listed::Endpoints(endpoints(slice));
    }
    let text = |name| annotation(&slice.metadata, name);
    let announced = || {
        let instance = text(INSTANCE)?.clone();
        let mut member = Member::new(instance, serde_json::from_str(text(ADDRESSES)?).ok()?);
        member.labels = serde_json::from_str(text(LABELS)?).ok()?;
        Some(Listed::Announced(member))
    };
    announced().unwrap_or(Listed::Endpoints(Vec::new()))
}

fn endpoints(slice: &EndpointSlice) -> Vec<Member> {
    let ports: Vec<u16> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| u16::try_from(port.port?).ok())
        .collect();
    let ready = |endpoint: &&Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|it| it.ready).unwrap_or(true)
    };
    let member = |endpoint: &Endpoint| {
        let ips = endpoint
            .addresses
            .iter()
            .filter_map(|it| it.parse::<IpAddr>().ok());
        let mut addresses: Vec<SocketAddr> = ips
            .flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port)))
            .collect();
        addresses.dedup();
        let first = addresses.first()?;
        let pod = endpoint.target_ref.as_ref().and_then(|it| it.name.clone());
        Some(Member::new(
            pod.unwrap_or_else(|| first.ip().to_string()),
            addresses,
        ))
    };
    slice
        .endpoints
        .iter()
        .filter(ready)
        .filter_map(member)
        .collect()
}

/// What a lease says of its member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) duration: Duration,
    pub(super) renewed: Option<SystemTime>,
    pub(super) load: u16,
    pub(super) epoch: u64,
}

/// Reads a lease; what is broken in it is as if it were not there.
pub(super) fn read_lease(lease: &Lease) -> Held {
    let spec = lease.spec.as_ref();
    let seconds = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .unwrap_or(0);
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let number = |name| annotation(&lease.metadata, name);
    Held {
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        renewed: renewed.map(|time| SystemTime::from(time.0)),
        load: number(LOAD).and_then(|it| it.parse().ok()).unwrap_or(0),
        epoch: number(EPOCH).and_then(|it| it.parse().ok()).unwrap_or(0),
    }
}

/// Leases ended so long ago that whoever held them will not come back for them: ten times over.
pub(super) fn is_abandoned(lease: &Lease, now: SystemTime) -> bool {
    let held = read_lease(lease);
    let end = held
        .renewed
        .and_then(|renewed| renewed.checked_add(held.duration * 10));
    end.is_none_or(|end| end < now)
}
