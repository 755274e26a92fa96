//! Configuration and command lines of the node: containerd, CNI, kubelet, kube-proxy.
//! It must not start them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::images;
use crate::network::{BRIDGE, NETWORK, POD_RANGE};
use crate::state::Layout;

/// Name of the only node.
pub(crate) const NAME: &str = "node1";
/// Where sockets and other things that must not outlive a boot lie. Kept short: the path of a
/// Unix socket has at most 107 bytes.
pub(crate) const RUN_DIR: &str = "/run/rustci";
/// containerd's socket.
pub(crate) const SOCKET: &str = "/run/rustci/containerd.sock";

/// Writes containerd's and the network's configuration; gives containerd's arguments.
pub(crate) fn containerd(layout: &Layout) -> Result<Vec<String>> {
    let cni = layout.path("cni");
    fs::create_dir_all(&cni)?;
    fs::create_dir_all(RUN_DIR).with_context(|| format!("could not create {RUN_DIR}"))?;
    let network = json!({
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_RANGE}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": layout.text("cni-addresses"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    fs::write(
        cni.join("10-rustci.conflist"),
        serde_json::to_vec_pretty(&network)?,
    )?;
    let config = layout.path("containerd.toml");
    fs::create_dir_all(layout.path("containerd"))?;
    let snapshotter = snapshotter(&layout.path("containerd"))?;
    fs::write(&config, containerd_config(layout, snapshotter))?;
    Ok(vec!["--config".into(), config.display().to_string()])
}

/// overlayfs cannot lie on overlayfs, as it would where the cache is inside a container.
fn snapshotter(root: &Path) -> Result<&'static str> {
    let on = nix::sys::statfs::statfs(root)?.filesystem_type();
    Ok(if on == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC {
        "native"
    } else {
        "overlayfs"
    })
}

/// `restrict_oom_score_adj`: where CAP_SYS_RESOURCE is missing, every sandbox would die with
/// "can't get final child's PID from pipe: EOF".
fn containerd_config(layout: &Layout, snapshotter: &str) -> String {
    let root = layout.text("containerd");
    let cni = layout.text("cni");
    let pause = images::PAUSE;
    format!(
        r#"version = 3
root = "{root}"
state = "{RUN_DIR}/containerd"
imports = []
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
address = "{SOCKET}"
[ttrpc]
address = "{SOCKET}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{cni}"
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
"#
    )
}

/// Writes the kubelet's configuration; gives its arguments.
pub(crate) fn kubelet(layout: &Layout, ip: Ipv4Addr, ports: [u16; 2]) -> Result<Vec<String>> {
    let [port, health_port] = ports;
    let few = json!({
        "memory.available": "50Mi",
        "nodefs.available": "1%",
        "nodefs.inodesFree": "1%",
        "imagefs.available": "1%",
        "imagefs.inodesFree": "1%",
    });
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "port": port,
        "healthzPort": health_port,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "podLogsDir": layout.text("pod-logs"),
        "oomScoreAdj": 0,
        "failSwapOn": false,
        "featureGates": {"ImageVolume": true},
        "failCgroupV1": false,
        "enforceNodeAllocatable": [],
        "evictionHard": few,
        // Images come from no registry, so a collected one would not come back.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "clusterDNS": name_servers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.text("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": layout.text("pki/node.crt"),
        "tlsPrivateKeyFile": layout.text("pki/node.key"),
    });
    let path = layout.path("kubelet.json");
    fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    Ok(vec![
        format!("--config={}", path.display()),
        format!("--kubeconfig={}", layout.text("node.kubeconfig")),
        format!("--root-dir={}", layout.text("kubelet")),
        format!("--hostname-override={NAME}"),
        format!("--node-ip={ip}"),
    ])
}

/// The machine's own name servers that pods can reach. There is no DNS server in the cluster, and
/// without any address the kubelet writes a warning event for each pod.
fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let servers = resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver "));
    let addresses = servers.filter_map(|address| address.trim().parse::<IpAddr>().ok());
    addresses
        .filter(|address| !address.is_loopback())
        .take(3)
        .collect()
}

/// Writes kube-proxy's configuration; gives its arguments.
pub(crate) fn proxy(layout: &Layout, ports: [u16; 2]) -> Result<Vec<String>> {
    let [health, metrics] = ports;
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NAME,
        "healthzBindAddress": format!("127.0.0.1:{health}"),
        "metricsBindAddress": format!("127.0.0.1:{metrics}"),
        "clientConnection": {"kubeconfig": layout.text("kube-proxy.kubeconfig")},
        // Zero leaves the machine's own values alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s"},
        // A test that waits for an endpoint should not wait for the proxy as well.
        "iptables": {"minSyncPeriod": "100ms"},
    });
    let path = layout.path("kube-proxy.json");
    fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    Ok(vec![format!("--config={}", path.display())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_get_no_name_server_that_only_the_machine_itself_reaches() {
        let text = "# none\nnameserver 127.0.0.53\nsearch zoo.test\nnameserver 192.0.2.9\n";
        assert_eq!(name_servers(text), [IpAddr::from([192, 0, 2, 9])]);
    }

    #[test]
    fn containerd_keeps_away_from_the_service_of_the_machine() {
        let text = containerd_config(&Layout::machine(), "overlayfs");
        assert!(
            text.contains("address = \"/run/rustci/containerd.sock\""),
            "{text}"
        );
        assert!(text.contains("sandbox = \"localhost/pause:1\""), "{text}");
        assert!(!text.contains("/var/lib/containerd"), "{text}");
        assert!(!text.contains("/run/containerd"), "{text}");
    }
}
