//! Builds the Kubernetes programs and etcd once, from the Go module in `kubernetes/`.
//! It must not start any of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, command};

const GO_MOD: &str = include_str!("../kubernetes/go.mod");
const GO_SUM: &str = include_str!("../kubernetes/go.sum");
const PROGRAMS: &[&str] = &[
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

/// The folder with the built programs.
#[derive(Clone, Debug)]
pub(crate) struct Binaries(PathBuf);

impl Binaries {
    /// Path of one program.
    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }
}

/// Gives the programs, building them when they are not in the cache (about eight minutes on two
/// cores). Safe in parallel: one builds, the others wait.
pub(crate) fn ensure() -> Result<Binaries> {
    let Ok(go) = command::run(&["go", "env", "GOVERSION"]) else {
        bail!("the test cluster is built with Go, and no working `go` is on the path");
    };
    let key = cache::key(&[
        GO_MOD.as_bytes(),
        GO_SUM.as_bytes(),
        go.trim().as_bytes(),
        ldflags()?.as_bytes(),
    ]);
    let dir = cache::cache_dir().join(format!("kubernetes-{key}"));
    cache::once(&dir, build)?;
    Ok(Binaries(dir))
}

fn build(out: &Path) -> Result<()> {
    eprintln!("building Kubernetes and etcd, once, about eight minutes on two cores ...");
    let module = tempfile::tempdir()?;
    fs::write(module.path().join("go.mod"), GO_MOD)?;
    fs::write(module.path().join("go.sum"), GO_SUM)?;
    fs::create_dir_all(out)?;
    let etcd = ["go.etcd.io/etcd/server/v3".to_owned()];
    compile(module.path(), &out.join("etcd"), &etcd)?;
    let kubernetes: Vec<String> = PROGRAMS
        .iter()
        .map(|name| format!("k8s.io/kubernetes/cmd/{name}"))
        .collect();
    compile(module.path(), out, &kubernetes)
}

fn compile(module: &Path, out: &Path, packages: &[String]) -> Result<()> {
    let mut go = Command::new("go");
    go.current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false");
    go.args(["build", "-trimpath", "-ldflags", &ldflags()?, "-o"])
        .arg(out)
        .args(packages);
    command::output(&mut go).map(drop)
}

/// The version stamp: without it kubectl and helm refuse to talk to the server.
fn ldflags() -> Result<String> {
    let version = kubernetes_version(GO_MOD).context("go.mod requires k8s.io/kubernetes")?;
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = numbers
        .next()
        .zip(numbers.next())
        .context("a version has two dots")?;
    let stamp = "-X k8s.io/component-base/version.git";
    Ok(format!(
        "-s -w {stamp}Version={version} {stamp}Major={major} {stamp}Minor={minor}"
    ))
}

fn kubernetes_version(go_mod: &str) -> Option<&str> {
    let line = go_mod.lines().find(|line| {
        line.trim_start()
            .trim_start_matches("require ")
            .starts_with("k8s.io/kubernetes v")
    })?;
    line.split_whitespace().find(|word| word.starts_with('v'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stamp_is_the_required_version() {
        let flags = ldflags().unwrap();
        assert!(flags.contains("version.gitVersion=v1.34."), "{flags}");
        assert!(flags.ends_with("version.gitMinor=34"), "{flags}");
    }

    #[test]
    fn the_version_is_found_on_one_line_and_in_a_block() {
        assert_eq!(
            kubernetes_version("require k8s.io/kubernetes v1.2.3\n"),
            Some("v1.2.3")
        );
        assert_eq!(
            kubernetes_version("\tk8s.io/kubernetes v1.2.3 // x\n"),
            Some("v1.2.3")
        );
        assert_eq!(kubernetes_version("module x\n"), None);
    }
}
