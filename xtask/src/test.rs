//! `cargo xtask test`: every test, from units to pods on a real cluster.
//! Must not skip a part that cannot run: it fails instead.

use anyhow::Result;
use cluster::{Cluster, Kind};

use crate::images::{self, Profile};
use crate::install::{install, load};
use crate::shell::{cargo, run};

/// End-to-end tests at once: they wait for the cluster most of the time, not for a processor.
const AT_ONCE: &str = "8";

/// Which tests run; all of them by default.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Only the tests that need neither root nor Go.
    #[arg(long, conflicts_with = "e2e")]
    units: bool,
    /// Only the end-to-end tests on the cluster.
    #[arg(long)]
    e2e: bool,
    /// Of them only this file of e2e/tests.
    #[arg(long, requires = "e2e")]
    only: Option<String>,
    /// Leave the cluster up afterwards.
    #[arg(long)]
    keep: bool,
}

/// Runs the tests; the first failing part ends them.
pub(crate) async fn test(options: Options) -> Result<()> {
    if options.units {
        return units();
    }
    if !options.e2e {
        if Cluster::status().await?.kind == Kind::Own {
            cluster::install_packages().await?;
        }
        let all = [
            "test",
            "--workspace",
            "--exclude",
            "e2e",
            "--exclude",
            "cluster",
            // It has no tests, and its peers take long to compile.
            "--exclude",
            "valkyrie-bench",
        ];
        // A test that would only warn of what this machine lacks fails instead.
        run(cargo().args(all).env("RUSTCI_TEST_ALL", "1"))?;
        cluster_itself().await?;
    }
    end_to_end(&options).await
}

fn units() -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--workspace"]);
    for package in ["e2e", "cluster", "operator", "crds", "valkyrie-bench"] {
        command.args(["--exclude", package]);
    }
    run(&mut command)?;
    run(cargo().args(["test", "-p", "operator", "-p", "crds", "--lib"]))
}

/// The tests that start and stop this machine's own cluster are left out only where another one
/// was given, since this machine may not be able to have one.
async fn cluster_itself() -> Result<()> {
    let mut command = cargo();
    command.args(["test", "-p", "cluster"]);
    if Cluster::status().await?.kind != Kind::Own {
        say!("a cluster is given: the tests of this machine's own are left out");
        command.arg("--lib");
        for name in ["control_plane", "given", "registry"] {
            command.args(["--test", name]);
        }
    }
    run(&mut command)
}

/// The cluster is ours for the time of the tests, unless it ran before.
async fn end_to_end(options: &Options) -> Result<()> {
    let rustci = images::cli(Profile::Dev)?;
    let scoped;
    let kept;
    let cluster: &Cluster = if options.keep {
        kept = Cluster::up().await?;
        &kept
    } else {
        scoped = Cluster::up_scoped().await?;
        &scoped
    };
    install(cluster, Profile::Dev).await?;
    load(cluster, vec![cluster::images::build()?]).await?;
    // A given cluster's pods may not reach this machine; the tests that need it say so.
    let host = cluster
        .host_ip()
        .map(|address| address.to_string())
        .unwrap_or_default();
    let only = options.only.iter().flat_map(|name| ["--test", name]);
    run(cargo()
        .args(["test", "-p", "e2e"])
        .args(only)
        .env("RUST_TEST_THREADS", AT_ONCE)
        .env("RUSTCI_E2E_HOST_IP", host)
        .env("RUSTCI_E2E_KUBECONFIG", cluster.kubeconfig())
        .env("RUSTCI_E2E_KUBECTL", cluster.kubectl())
        .env("RUSTCI_E2E_OPERATOR", images::operator_program())
        .env("RUSTCI_E2E_CLI", rustci))
}
