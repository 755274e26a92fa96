//! Looks for what a cluster leaves on the machine.
//! It must not trust the record of the cluster, which says what should be.

use std::fs;
use std::process::Command;

use cluster::Cluster;

/// The processes of a running cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pids(Vec<i32>);

impl Pids {
    /// Those recorded now.
    pub(crate) async fn now() -> Pids {
        let status = Cluster::status().await.unwrap();
        Pids(
            status
                .processes
                .into_iter()
                .map(|(_, pid, _)| pid)
                .collect(),
        )
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// None of them runs any more.
    pub(crate) fn assert_ended(&self) {
        for pid in &self.0 {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // An orphan may wait a moment for init to collect it.
            assert!(
                stat.is_empty() || stat.contains(") Z "),
                "still there: {stat}"
            );
        }
    }
}

/// No process, mount, interface or iptables rule of the cluster is on the machine.
pub(crate) fn assert_nothing_left(pids: &Pids) {
    assert!(pids.len() >= 7, "{pids:?}");
    pids.assert_ended();
    let ours = [
        format!("{}/cluster/", cluster::cache_dir().display()),
        "/run/rustci/".into(),
    ];
    let named = |text: &str| ours.iter().any(|dir| text.contains(dir.as_str()));
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(!named(&line), "a process is left: {line}");
        for word in ["udp-zebra serve", "httpd -f -p 8080", "/pause"] {
            assert!(
                !line.starts_with(word) && !line.starts_with(&format!("/{word}")),
                "{line}"
            );
        }
    }
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
        assert!(!named(line), "a mount is left: {line}");
    }
    let links = String::from_utf8(output("ip", &["-o", "link"])).unwrap();
    assert!(!links.contains("rustci0"), "{links}");
    let rules = String::from_utf8(output("iptables-save", &[])).unwrap();
    for word in ["KUBE-", "RUSTCI-", "name: \\\"rustci\\\"", "CNI-"] {
        assert!(!rules.contains(word), "{word} in\n{rules}");
    }
}

fn output(program: &str, arguments: &[&str]) -> Vec<u8> {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success());
    done.stdout
}
