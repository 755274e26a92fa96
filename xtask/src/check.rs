//! `cargo xtask check`: what must hold of the code besides its tests.
//! Must not change a file of the checkout.

use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;

use crate::shell::{self, cargo, output, run};

const DENY: &str = "0.20.2";

/// A crate, its features, and what must not be among its dependencies.
const PURE: &[(&str, &[&str], &[&str])] = &[
    (
        "crds",
        &[],
        &["tokio", "kube-client", "kube-runtime", "quinn", "axum"],
    ),
    (
        "planner",
        &[],
        &[
            "tokio",
            "kube-client",
            "kube-runtime",
            "quinn",
            "axum",
            "rand",
            "valkyrie",
        ],
    ),
    (
        "runner-messages",
        &[],
        &["tokio", "kube-core", "quinn", "valkyrie"],
    ),
    ("storage", &[], &["kube-core", "quinn", "valkyrie", "crds"]),
    (
        "valkyrie",
        &["--no-default-features"],
        &["tokio", "quinn", "kube-core", "runner-messages"],
    ),
    (
        "valkyrie",
        &[],
        &["kube-core", "runner-messages", "crds", "ring"],
    ),
    (
        "valkyrie",
        &["--features", "kubernetes"],
        &["runner-messages", "crds", "ring"],
    ),
    ("hub", &[], &["kube-core", "crds", "planner"]),
    ("dispatch", &[], &["kube-client", "kube-runtime", "axum"]),
    (
        "runner",
        &[],
        &["kube-core", "crds", "planner", "hub", "ring"],
    ),
    ("operator", &[], &["ring", "openssl"]),
];

/// Runs every check; the first that fails ends it.
pub(crate) fn check() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    purity()?;
    valkyrie()?;
    crate::generate::generate(true)?;
    run(Command::new(deny()?)
        .current_dir(shell::root())
        .args(["check", "licenses", "bans", "sources"]))?;
    say!("all checks passed");
    Ok(())
}

/// Features of `valkyrie` that must each build alone; the workspace build unites them and would
/// hide one that lacks something. The first stands for none at all.
const FEATURES: &[&str] = &[
    "",
    "identity",
    "capability",
    "net",
    "quic",
    "qlog",
    "tcp",
    "ws",
    "http2",
    "nats",
    "spiffe",
    "kubernetes",
];

/// Each feature of `valkyrie` alone, and its documentation with all of them, without a warning.
fn valkyrie() -> Result<()> {
    let package = ["--quiet", "-p", "valkyrie"];
    for feature in FEATURES {
        run(cargo()
            .arg("clippy")
            .args(package)
            .args(["--lib", "--no-default-features", "--features", feature])
            .args(["--", "-D", "warnings"]))?;
    }
    run(cargo()
        .arg("doc")
        .args(package)
        .args(["--no-deps", "--all-features"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    say!("every feature of valkyrie builds alone, and its documentation is whole");
    Ok(())
}

fn purity() -> Result<()> {
    for (package, features, forbidden) in PURE {
        let tree = output(
            cargo()
                .args(["tree", "-p", package, "-e", "normal", "--prefix", "none"])
                .args(*features),
        )?;
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap_or_default();
            if forbidden.contains(&name) {
                bail!(
                    "crate `{package}` must not depend on `{name}`: see `cargo tree -p {package}`"
                );
            }
        }
    }
    say!("the core crates are pure");
    Ok(())
}

/// cargo-deny, installed into the cache when it isn't there.
fn deny() -> Result<PathBuf> {
    let folder = cluster::cache_dir().join(format!("tools/cargo-deny-{DENY}"));
    let binary = folder.join("bin/cargo-deny");
    if !binary.exists() {
        run(cargo()
            .args([
                "install",
                "--quiet",
                "--locked",
                "cargo-deny",
                "--version",
                DENY,
                "--root",
            ])
            .arg(&folder)
            .env_remove("CARGO_TARGET_DIR"))?;
    }
    Ok(binary)
}
