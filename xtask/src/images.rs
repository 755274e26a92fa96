//! RustCI's own images: one static binary each.
//! Must not start a cluster.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use cluster::images;

use crate::shell;

/// How the binaries are compiled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Profile {
    /// Shares its dependencies with the tests.
    Dev,
    /// For use and for benchmarks.
    Release,
}

/// Tars of the operator's and the agent's image, made from this checkout.
pub(crate) fn own(profile: Profile) -> Result<Vec<PathBuf>> {
    let agent = static_binary("runner", "rustci-agent", profile)?;
    let operator = static_binary("operator", "rustci-operator", profile)?;
    Ok(vec![
        images::image_from_binary(
            "localhost/rustci/agent:dev",
            &agent,
            &["/rustci-agent"],
            &[],
        )?,
        images::image_from_binary(
            "localhost/rustci/operator:dev",
            &operator,
            &["/rustci-operator"],
            &[],
        )?,
    ])
}

/// The operator's program, as [`own`] put it into the image.
pub(crate) fn operator_program() -> PathBuf {
    kept("rustci-operator")
}

/// The `rustci` program of this checkout.
pub(crate) fn cli(profile: Profile) -> Result<PathBuf> {
    shell::run(with_profile(
        shell::cargo().args(["build", "--quiet", "-p", "cli"]),
        profile,
    ))?;
    Ok(folder(profile).join("rustci"))
}

/// Only the last link is static, so the dependencies are those of an ordinary build.
fn static_binary(package: &str, binary: &str, profile: Profile) -> Result<PathBuf> {
    let mut command = shell::cargo();
    command.args(["rustc", "--quiet", "-p", package, "--bin", binary]);
    with_profile(&mut command, profile).args([
        "--",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "strip=symbols",
    ]);
    shell::run(&mut command)?;
    let built = folder(profile).join(binary);
    std::fs::create_dir_all(shell::target_dir().join("images"))?;
    let kept = kept(binary);
    std::fs::copy(&built, &kept).with_context(|| format!("can't copy {}", built.display()))?;
    Ok(kept)
}

fn kept(binary: &str) -> PathBuf {
    shell::target_dir().join("images").join(binary)
}

fn with_profile(command: &mut Command, profile: Profile) -> &mut Command {
    match profile {
        Profile::Dev => command,
        Profile::Release => command.arg("--release"),
    }
}

fn folder(profile: Profile) -> PathBuf {
    shell::target_dir().join(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    })
}
