//! Builds the cluster's programs once, from the Go modules in `kubernetes/` and `containerd/`.
//! It must not start any of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, command};

/// The servers of Kubernetes, kubectl and etcd: about eight minutes on two cores.
const KUBERNETES: Module = Module {
    name: "kubernetes",
    what: "Kubernetes and etcd, once, about eight minutes on two cores",
    go_mod: include_str!("../kubernetes/go.mod"),
    go_sum: include_str!("../kubernetes/go.sum"),
    programs: &[
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        (
            "kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
        ),
        ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ],
};

/// The container runtime. Debian's is too old to mount images as volumes.
const CONTAINERD: Module = Module {
    name: "containerd",
    what: "containerd, once, about two minutes on two cores",
    go_mod: include_str!("../containerd/go.mod"),
    go_sum: include_str!("../containerd/go.sum"),
    programs: &[
        (
            "containerd",
            "github.com/containerd/containerd/v2/cmd/containerd",
        ),
        // containerd looks for its shims beside itself.
        (
            "containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        ),
        ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
    ],
};

/// A Go module and what is built of it.
struct Module {
    name: &'static str,
    /// What is built, for the user who waits for it.
    what: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
    /// Name of each program and the package it is built from.
    programs: &'static [(&'static str, &'static str)],
}

/// A folder with built programs.
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

/// Gives Kubernetes and etcd, building them when they are not in the cache. Safe in parallel:
/// one builds, the others wait.
pub(crate) fn kubernetes() -> Result<Binaries> {
    ensure(&KUBERNETES)
}

/// Gives containerd, its shim and its client, like [`kubernetes`].
pub(crate) fn containerd() -> Result<Binaries> {
    ensure(&CONTAINERD)
}

fn ensure(module: &Module) -> Result<Binaries> {
    let Ok(go) = command::run(&["go", "env", "GOVERSION"]) else {
        bail!("the test cluster is built with Go, and no working `go` is on the path");
    };
    let key = cache::key(&[
        module.go_mod.as_bytes(),
        module.go_sum.as_bytes(),
        go.trim().as_bytes(),
        ldflags(module)?.as_bytes(),
    ]);
    let dir = cache::cache_dir().join(format!("{}-{key}", module.name));
    cache::once(&dir, |out| build(module, out))?;
    Ok(Binaries(dir))
}

fn build(module: &Module, out: &Path) -> Result<()> {
    eprintln!("building {} ...", module.what);
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("go.mod"), module.go_mod)?;
    fs::write(folder.path().join("go.sum"), module.go_sum)?;
    fs::create_dir_all(out)?;
    let flags = ldflags(module)?;
    for (name, package) in module.programs {
        let mut go = Command::new("go");
        go.current_dir(folder.path())
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-buildvcs=false");
        go.args(["build", "-trimpath", "-ldflags", &flags, "-o"])
            .arg(out.join(name))
            .arg(package);
        command::output(&mut go)?;
    }
    Ok(())
}

/// The version stamp: without it kubectl and helm refuse to talk to the server.
fn ldflags(module: &Module) -> Result<String> {
    let plain = "-s -w".to_owned();
    if module.name != KUBERNETES.name {
        return Ok(plain);
    }
    let version = kubernetes_version(module.go_mod).context("go.mod requires k8s.io/kubernetes")?;
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = numbers
        .next()
        .zip(numbers.next())
        .context("a version has two dots")?;
    let stamp = "-X k8s.io/component-base/version.git";
    Ok(format!(
        "{plain} {stamp}Version={version} {stamp}Major={major} {stamp}Minor={minor}"
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
        let flags = ldflags(&KUBERNETES).unwrap();
        assert!(flags.contains("version.gitVersion=v1.34."), "{flags}");
        assert!(flags.ends_with("version.gitMinor=34"), "{flags}");
        assert_eq!(ldflags(&CONTAINERD).unwrap(), "-s -w");
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
