//! Makes sure that the system packages the cluster is made of are installed.
//! It must not install anything that is already there.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Debian packages that a node and its images need, and what other tests need: `ethtool` for lossy
/// networks, `nats-server` for the adapter.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "conntrack",
    "containernetworking-plugins",
    "debootstrap",
    "ethtool",
    "gcc",
    "git",
    "iproute2",
    "iptables",
    "libc6-dev",
    "nats-server",
    "runc",
];

/// Installs what is missing. Needs root and apt only when something is missing.
pub(crate) fn ensure() -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !nix::unistd::geteuid().is_root() {
        bail!("the packages {list} are missing and only root can install them");
    }
    if install(&missing).is_err() {
        command::run(&["apt-get", "update", "-q"])?;
        install(&missing)?;
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(packages);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command::output(&mut command).map(drop)
}

fn missing() -> Result<Vec<&'static str>> {
    if !command::exists("dpkg-query") || !command::exists("apt-get") {
        bail!(
            "the test cluster takes runc, network plug-ins and other parts from Debian packages, \
             and this machine has no apt; set RUSTCI_TEST_KUBECONFIG to use another cluster"
        );
    }
    // dpkg-query fails when one is unknown but still prints the others.
    let done = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(PACKAGES)
        .output()?;
    Ok(not_installed(
        PACKAGES,
        &String::from_utf8_lossy(&done.stdout),
    ))
}

fn not_installed<'a>(wanted: &[&'a str], listing: &str) -> Vec<&'a str> {
    let installed = |name: &str| {
        listing
            .lines()
            .any(|line| line == format!("{name} installed"))
    };
    wanted
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_and_unknown_packages_count_as_missing() {
        let listing = "runc installed\ngit config-files\n";
        assert_eq!(
            not_installed(&["runc", "git", "gcc"], listing),
            ["git", "gcc"]
        );
    }
}
