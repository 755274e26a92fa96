//! Where agents find the hub: the leader's address behind a Service, or the advertised one.
//! Must not write anything unless this instance leads.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use thiserror::Error;

use crate::FIELD_MANAGER;

/// Name of the hub's Service and of its EndpointSlice.
pub const HUB_SERVICE: &str = "rustci-hub";

/// Why agents could not find the hub.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// The Service cannot be read.
    #[error("the Service {HUB_SERVICE} cannot be read")]
    ReadService(#[source] kube::Error),
    /// The Service has no address.
    #[error("the Service {HUB_SERVICE} has no cluster IP and UDP port")]
    NoAddress,
    /// The EndpointSlice cannot be written.
    #[error("the EndpointSlice {HUB_SERVICE} cannot be written")]
    WriteSlice(#[source] kube::Error),
    /// Neither a pod's address nor an advertised one is known.
    #[error("the hub's address is not known: run in a pod with POD_IP, or give --advertise")]
    NoPod,
}

/// Publishes this instance as the hub. Returns the address for agents.
pub async fn publish(
    client: &Client,
    namespace: &str,
    pod_ip: Option<IpAddr>,
    hub: SocketAddr,
) -> Result<SocketAddr, EndpointError> {
    let ip = pod_ip.ok_or(EndpointError::NoPod)?;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = services
        .get(HUB_SERVICE)
        .await
        .map_err(EndpointError::ReadService)?;
    let address = service_address(&service).ok_or(EndpointError::NoAddress)?;
    let slice = slice(namespace, ip, &slice_ports(&service, hub.port()));
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = slices
        .patch(HUB_SERVICE, &params, &Patch::Apply(&slice))
        .await;
    written.map_err(EndpointError::WriteSlice)?;
    Ok(address)
}

fn service_address(service: &Service) -> Option<SocketAddr> {
    let spec = service.spec.as_ref()?;
    let ip: IpAddr = spec.cluster_ip.as_ref()?.parse().ok()?;
    let mut ports = spec.ports.iter().flatten();
    let port = ports.find(|port| port.protocol.as_deref() == Some("UDP"))?;
    Some(SocketAddr::new(ip, u16::try_from(port.port).ok()?))
}

/// The hub listens for QUIC and for TCP on one port number: each port of the Service leads there.
fn slice_ports(service: &Service, port: u16) -> Vec<Value> {
    let ports = service.spec.iter().filter_map(|spec| spec.ports.as_ref());
    ports
        .flatten()
        .map(|of_service| {
            json!({
                "name": of_service.name.as_deref().unwrap_or_default(),
                "protocol": of_service.protocol.as_deref().unwrap_or("TCP"),
                "port": port,
            })
        })
        .collect()
}

fn slice(namespace: &str, ip: IpAddr, ports: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": HUB_SERVICE,
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": HUB_SERVICE,
                "endpointslice.kubernetes.io/managed-by": FIELD_MANAGER,
            },
        },
        "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
        "ports": ports,
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
    })
}
