//! Ends everything of the machine's cluster, also what a killed run left, by records and by what
//! is found on the machine.
//! It must not touch a process, mount or file of anybody else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};

use crate::process::{self, PidRecord};
use crate::state::{Layout, State};
use crate::{containers, network, node};

const SERVERS: &[&str] = &[
    "containerd",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
];

/// Stops the processes in order, then removes mounts, network and data. Images and logs stay.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    // A damaged record hides nothing that the search by command line would not find.
    let state = State::load(layout).ok().flatten().unwrap_or_default();
    let mut servers: Vec<PidRecord> = state.processes;
    servers.retain(PidRecord::runs);
    for found in process::find("leftover", |words| is_server(words, layout.dir())) {
        if servers.iter().all(|server| server.pid() != found.pid()) {
            servers.push(found);
        }
    }
    let root = nix::unistd::geteuid().is_root();
    if root {
        stop_pods(&servers);
    }
    process::stop(&servers, Duration::from_secs(3));
    if root {
        stop_shims();
        unmount_below(&[layout.dir(), Path::new(node::RUN_DIR)])?;
        network::down()?;
        remove_cgroups();
        remove_traces(layout);
    }
    remove_data(layout)?;
    State::remove(layout)
}

/// The kubelet first, so that it restarts nothing; then the pods, while containerd can still
/// clean up after them.
fn stop_pods(servers: &[PidRecord]) {
    let named = |name: &str| -> Vec<PidRecord> {
        servers
            .iter()
            .filter(|server| server.name == name)
            .cloned()
            .collect()
    };
    process::stop(&named("kubelet"), Duration::from_secs(3));
    if !named("containerd").is_empty() {
        // What this leaves, the search for shims finds.
        let _ = containers::remove_all();
    }
}

/// Shims outlive containerd, and a killed shim's containers live on: all of them end here.
fn stop_shims() {
    let shims = process::find("shim", |words| {
        words
            .first()
            .is_some_and(|program| program.contains("containerd-shim"))
            && words.iter().any(|word| word == node::SOCKET)
    });
    let mut all = process::with_descendants(shims);
    for pid in cgroup_members() {
        all.extend(PidRecord::of("container", pid));
    }
    process::stop(&all, Duration::from_millis(200));
}

fn is_server(words: &[String], dir: &Path) -> bool {
    let Some((program, arguments)) = words.split_first() else {
        return false;
    };
    let name = Path::new(program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let inside = format!("{}/", dir.display());
    SERVERS.contains(&&*name) && arguments.iter().any(|argument| argument.contains(&inside))
}

/// Unmounts everything below the given folders, last mounted first.
fn unmount_below(dirs: &[&Path]) -> Result<()> {
    for point in mounts_below(&fs::read_to_string("/proc/self/mountinfo")?, dirs)
        .iter()
        .rev()
    {
        // A mount in use is taken out of sight and goes with its last user.
        umount2(point, MntFlags::empty())
            .or_else(|_| umount2(point, MntFlags::MNT_DETACH))
            .with_context(|| format!("could not unmount {}", point.display()))?;
    }
    Ok(())
}

/// Mount points below the folders, in the order of mountinfo (proc(5): the fifth field, with
/// blanks as `\040`).
fn mounts_below(mountinfo: &str, dirs: &[&Path]) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| {
            dirs.iter()
                .any(|dir| point.starts_with(dir) && point != dir)
        })
        .collect()
}

/// The kubelet's cgroup in each hierarchy, or in the only one of version 2.
fn pod_cgroups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = hierarchies
        .map(|entry| entry.path().join("kubepods"))
        .collect();
    all.push(root.join("kubepods"));
    all.retain(|path| path.is_dir());
    all
}

fn cgroup_members() -> Vec<i32> {
    let mut pids = Vec::new();
    for group in pod_cgroups().iter().flat_map(|root| deepest_first(root)) {
        let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.extend(members.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn remove_cgroups() {
    for group in pod_cgroups().iter().flat_map(|root| deepest_first(root)) {
        // One with a dying member goes at the next call; an empty group costs nothing.
        let _ = fs::remove_dir(group);
    }
}

fn deepest_first(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(deepest_first(&entry.path()));
        }
    }
    all.push(dir.to_owned());
    all
}

/// Files outside our folders that the kubelet and CNI make under fixed names.
fn remove_traces(layout: &Layout) {
    let ours = layout.path("pod-logs");
    for entry in fs::read_dir("/var/log/containers")
        .into_iter()
        .flatten()
        .flatten()
    {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(&ours)) {
            let _ = fs::remove_file(entry.path());
        }
    }
    for entry in fs::read_dir("/var/lib/cni/results")
        .into_iter()
        .flatten()
        .flatten()
    {
        let prefix = format!("{}-", network::NETWORK);
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn remove_data(layout: &Layout) -> Result<()> {
    let mut gone: Vec<PathBuf> = ["etcd", "kubelet", "cni", "cni-addresses", "pod-logs", "pki"]
        .iter()
        .map(|name| layout.path(name))
        .collect();
    gone.extend([layout.path("volumes"), PathBuf::from(node::RUN_DIR)]);
    for dir in gone.iter().filter(|dir| dir.exists()) {
        fs::remove_dir_all(dir).with_context(|| format!("could not remove {}", dir.display()))?;
    }
    for entry in fs::read_dir(layout.dir()).into_iter().flatten().flatten() {
        // kind's is not ours to remove here: its cluster may still run.
        let name = entry.file_name();
        let ours = name == "kubeconfig" || name.to_string_lossy().ends_with(".kubeconfig");
        if ours && name != "kind.kubeconfig" {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_inside_our_folders_are_ours() {
        let mountinfo = "20 1 0:1 / /keep rw - tmpfs x rw\n\
                         21 1 0:2 / /ours/a rw - tmpfs x rw\n\
                         22 1 0:3 / /ours/a/deep\\040er rw - tmpfs x rw\n\
                         23 1 0:4 / /ours rw - tmpfs x rw\n\
                         24 1 0:5 / /ours2/b rw - tmpfs x rw\n";
        let found = mounts_below(mountinfo, &[Path::new("/ours")]);
        assert_eq!(
            found,
            [PathBuf::from("/ours/a"), PathBuf::from("/ours/a/deep er")]
        );
    }

    #[test]
    fn a_server_is_ours_only_with_our_folder_in_its_arguments() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let dir = Path::new("/c/cluster");
        assert!(is_server(&words("/x/etcd --data-dir=/c/cluster/etcd"), dir));
        assert!(is_server(
            &words("containerd --config /c/cluster/containerd.toml"),
            dir
        ));
        assert!(!is_server(
            &words("/x/etcd --data-dir=/c/cluster2/etcd"),
            dir
        ));
        assert!(!is_server(&words("vim /c/cluster/logs/etcd.log"), dir));
    }
}
