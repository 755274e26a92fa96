//! Command lines of the control plane: etcd, API server, controller manager, scheduler.
//! It must not start them or touch a file.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result};

use crate::pki::{Authority, Pki, Subject};

/// Range of the Services' addresses; the first one is the API server's own.
const SERVICE_RANGE: &str = "10.96.0.0/16";
const API_SERVICE_IP: &str = "10.96.0.1";

/// TCP ports of the control plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) api: u16,
}

impl Ports {
    /// Ports that are free now. Another process may still take one before the server does: the
    /// server then ends with a clear message and the start is tried again.
    pub(crate) fn free() -> Result<Ports> {
        let [etcd, etcd_peer, api] = free_ports()?;
        Ok(Ports {
            etcd,
            etcd_peer,
            api,
        })
    }
}

/// Different TCP ports, free on all addresses at the time of the call.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    // All are held until the last is known, else the same one could come twice.
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("no free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Issues what the control plane needs; the authority can sign more.
pub(crate) fn issue_certificates(pki: &Pki, node_ip: Ipv4Addr) -> Result<Authority> {
    let ca = pki.authority("ca")?;
    let ip = node_ip.to_string();
    pki.issue(
        &ca,
        &Subject {
            file: "apiserver",
            common_name: "kube-apiserver",
            organization: None,
            hosts: &[
                "127.0.0.1",
                &ip,
                API_SERVICE_IP,
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ],
        },
    )?;
    let masters = Some("system:masters");
    pki.issue(&ca, &Subject::client("admin", "rustci-test-admin", masters))?;
    pki.issue(
        &ca,
        &Subject::client("apiserver-kubelet", "kube-apiserver", masters),
    )?;
    for part in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        pki.issue(&ca, &Subject::client(part, &format!("system:{part}"), None))?;
    }
    let front_proxy = pki.authority("front-proxy-ca")?;
    pki.issue(
        &front_proxy,
        &Subject::client("front-proxy", "front-proxy-client", None),
    )?;
    pki.key_pair("service-account")?;
    Ok(ca)
}

/// etcd without fsync: a test cluster need not outlive a power cut.
pub(crate) fn etcd(data: &Path, ports: Ports) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

/// The API server; `node` is the address it is advertised under, `None` without a node.
pub(crate) fn apiserver(pki: &Pki, ports: Ports, node: Option<Ipv4Addr>) -> Vec<String> {
    let crt = |name| pki.certificate(name).display().to_string();
    let key = |name| pki.key(name).display().to_string();
    let mut flags = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        // On by default from 1.35 on; pods may then mount an image.
        "--feature-gates=ImageVolume=true".into(),
        format!("--secure-port={}", ports.api),
        format!("--tls-cert-file={}", crt("apiserver")),
        format!("--tls-private-key-file={}", key("apiserver")),
        format!("--client-ca-file={}", crt("ca")),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        format!(
            "--service-account-signing-key-file={}",
            key("service-account")
        ),
        format!(
            "--service-account-key-file={}",
            pki.public_key("service-account").display()
        ),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--allow-privileged=true".into(),
        format!("--requestheader-client-ca-file={}", crt("front-proxy-ca")),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        format!("--proxy-client-cert-file={}", crt("front-proxy")),
        format!("--proxy-client-key-file={}", key("front-proxy")),
        "--enable-admission-plugins=NodeRestriction".into(),
    ];
    match node {
        Some(ip) => flags.extend([
            "--bind-address=0.0.0.0".into(),
            format!("--advertise-address={ip}"),
            format!("--kubelet-client-certificate={}", crt("apiserver-kubelet")),
            format!("--kubelet-client-key={}", key("apiserver-kubelet")),
            format!("--kubelet-certificate-authority={}", crt("ca")),
            "--kubelet-preferred-address-types=InternalIP".into(),
        ]),
        None => flags.extend([
            "--bind-address=127.0.0.1".into(),
            // A loopback address is refused as an endpoint, and nobody would use it.
            "--endpoint-reconciler-type=none".into(),
            // No controller makes the default service account that this plugin waits for.
            "--disable-admission-plugins=ServiceAccount".into(),
        ]),
    }
    flags
}

/// The controller manager, alone and thus without an election.
pub(crate) fn controller_manager(pki: &Pki, kubeconfig: &Path, port: u16) -> Vec<String> {
    let mut flags = component(kubeconfig, port);
    flags.extend([
        "--use-service-account-credentials=true".into(),
        format!(
            "--service-account-private-key-file={}",
            pki.key("service-account").display()
        ),
        format!("--root-ca-file={}", pki.certificate("ca").display()),
    ]);
    flags
}

/// The scheduler, alone and thus without an election.
pub(crate) fn scheduler(kubeconfig: &Path, port: u16) -> Vec<String> {
    component(kubeconfig, port)
}

fn component(kubeconfig: &Path, port: u16) -> Vec<String> {
    let path = kubeconfig.display();
    vec![
        format!("--kubeconfig={path}"),
        format!("--authentication-kubeconfig={path}"),
        format!("--authorization-kubeconfig={path}"),
        "--leader-elect=false".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_all_different() {
        let mut ports = free_ports::<20>().unwrap().to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }

    #[test]
    fn only_a_server_with_a_node_speaks_to_kubelets_and_listens_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(&dir.path().join("pki")).unwrap();
        let ports = Ports {
            etcd: 1,
            etcd_peer: 2,
            api: 3,
        };
        let alone = apiserver(&pki, ports, None).join(" ");
        let full = apiserver(&pki, ports, Some(Ipv4Addr::new(10, 9, 8, 7))).join(" ");
        assert!(alone.contains("--bind-address=127.0.0.1"), "{alone}");
        assert!(!alone.contains("kubelet"), "{alone}");
        assert!(full.contains("--advertise-address=10.9.8.7"), "{full}");
        assert!(full.contains("--kubelet-client-key="), "{full}");
    }
}
