//! The node's bridge and the traces of the pod network in iptables.
//! It must not touch an interface, chain or rule of anybody else.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command;

/// Address of the node, the gateway of its pods and the address of this machine for them.
pub(crate) const NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Range of the pods' addresses.
pub(crate) const POD_RANGE: &str = "10.244.0.0/24";
/// The bridge all pods hang on.
pub(crate) const BRIDGE: &str = "rustci0";
/// Name of the CNI network; it is in the comment of each rule that CNI makes.
pub(crate) const NETWORK: &str = "rustci";

const FORWARD_CHAIN: &str = "RUSTCI-FORWARD";

/// Makes the bridge and lets its traffic through.
pub(crate) fn up() -> Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("could not turn on ip_forward")?;
    // Without it the answer of a pod to its neighbour's Service request passes the bridge
    // untranslated and is dropped.
    let filter = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if fs::write(filter, "1").is_err() {
        let _ = command::run(&["modprobe", "br_netfilter"]);
        fs::write(filter, "1").context("the kernel has no br_netfilter, which Services need")?;
    }
    if command::run(&["ip", "link", "show", BRIDGE]).is_err() {
        command::run(&["ip", "link", "add", BRIDGE, "type", "bridge"])?;
    }
    command::run(&[
        "ip",
        "address",
        "replace",
        &format!("{NODE_IP}/24"),
        "dev",
        BRIDGE,
    ])?;
    command::run(&["ip", "link", "set", BRIDGE, "up"])?;
    forward_ours()
}

/// A container engine on the machine may have set the policy of FORWARD to DROP.
fn forward_ours() -> Result<()> {
    // A full table is the only sensible state: both calls fail when the thing is there already.
    let _ = command::run(&["iptables", "-w", "-N", FORWARD_CHAIN]);
    command::run(&["iptables", "-w", "-F", FORWARD_CHAIN])?;
    for side in ["-i", "-o"] {
        command::run(&[
            "iptables",
            "-w",
            "-A",
            FORWARD_CHAIN,
            side,
            BRIDGE,
            "-j",
            "ACCEPT",
        ])?;
    }
    if command::run(&["iptables", "-w", "-C", "FORWARD", "-j", FORWARD_CHAIN]).is_err() {
        // Behind kube-proxy's own jumps, which it puts first.
        command::run(&["iptables", "-w", "-A", "FORWARD", "-j", FORWARD_CHAIN])?;
    }
    Ok(())
}

/// Removes the bridge, our chains, and those of CNI and kube-proxy.
pub(crate) fn down() -> Result<()> {
    if command::run(&["ip", "link", "show", BRIDGE]).is_ok() {
        command::run(&["ip", "link", "delete", BRIDGE])?;
    }
    for family in ["iptables", "ip6tables"] {
        for table in ["nat", "filter", "mangle"] {
            clean_table(family, table)?;
        }
    }
    Ok(())
}

fn clean_table(family: &str, table: &str) -> Result<()> {
    // A family that the kernel does not have holds nothing of ours.
    let Ok(saved) = command::run(&[&format!("{family}-save"), "-t", table]) else {
        return Ok(());
    };
    let Some(restore) = removal(table, &saved) else {
        return Ok(());
    };
    let mut child = Command::new(format!("{family}-restore"))
        .args(["-w", "--noflush"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not run {family}-restore"))?;
    child
        .stdin
        .take()
        .context("stdin is piped")?
        .write_all(restore.as_bytes())?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        bail!(
            "could not clean {table}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(())
}

/// Input for `iptables-restore --noflush` that takes out what is ours: rules that jump into our
/// chains, then the chains. `None` when there is nothing.
fn removal(table: &str, saved: &str) -> Option<String> {
    let chains: Vec<&str> = saved
        .lines()
        .filter_map(|line| line.strip_prefix(':')?.split_whitespace().next())
        .filter(|chain| is_ours(chain, saved))
        .collect();
    if chains.is_empty() {
        return None;
    }
    let mut text = format!("*{table}\n");
    let rule = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let target = words
            .iter()
            .position(|word| *word == "-j" || *word == "-g")?;
        let jumps = chains.contains(words.get(target + 1)?);
        (words[0] == "-A" && jumps && !chains.contains(&words[1]))
            .then(|| format!("-D{}\n", &line[2..]))
    };
    text.extend(saved.lines().filter_map(rule));
    // A chain can go only when nothing refers to it, so all are emptied first.
    text.extend(chains.iter().map(|chain| format!("-F {chain}\n")));
    text.extend(chains.iter().map(|chain| format!("-X {chain}\n")));
    text.push_str("COMMIT\n");
    Some(text)
}

fn is_ours(chain: &str, saved: &str) -> bool {
    let mentioned = || {
        let comment = format!("name: \\\"{NETWORK}\\\"");
        saved
            .lines()
            .any(|line| line.contains(chain) && line.contains(&comment))
    };
    let port_maps = [
        "CNI-HOSTPORT-DNAT",
        "CNI-HOSTPORT-MASQ",
        "CNI-HOSTPORT-SETMARK",
    ];
    chain == FORWARD_CHAIN
        || chain.starts_with("KUBE-")
        || (chain.starts_with("CNI-") && mentioned())
        || (port_maps.contains(&chain) && !other_network(saved))
}

/// Whether another CNI network has rules: then the chains shared by all of them stay.
fn other_network(saved: &str) -> bool {
    let ours = format!("name: \\\"{NETWORK}\\\"");
    saved
        .lines()
        .any(|line| line.contains("name: \\\"") && !line.contains(&ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = r#"*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-aaa - [0:0]
:CNI-bbb - [0:0]
:KUBE-SERVICES - [0:0]
:OTHER - [0:0]
-A PREROUTING -m comment --comment "kubernetes" -j KUBE-SERVICES
-A PREROUTING -j OTHER
-A POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \"rustci\" id: \"1\"" -j CNI-aaa
-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \"podman\" id: \"2\"" -j CNI-bbb
-A CNI-aaa -d 10.244.0.0/24 -m comment --comment "name: \"rustci\" id: \"1\"" -j ACCEPT
COMMIT
"#;

    #[test]
    fn only_our_chains_and_the_jumps_into_them_are_removed() {
        let text = removal("nat", SAVED).unwrap();
        let expected = r#"*nat
-D PREROUTING -m comment --comment "kubernetes" -j KUBE-SERVICES
-D POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \"rustci\" id: \"1\"" -j CNI-aaa
-F CNI-aaa
-F KUBE-SERVICES
-X CNI-aaa
-X KUBE-SERVICES
COMMIT
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_table_without_our_chains_is_left_alone() {
        assert_eq!(
            removal("nat", ":PREROUTING ACCEPT [0:0]\n:OTHER - [0:0]\n"),
            None
        );
    }
}
