//! The cluster as its users see it, whatever it comes from.
//! It must not know how a single process of it is started.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use crate::machine::{self, blocking};
use crate::state::{Layout, State};
use crate::users::User;
use crate::{binaries, containers, given, network, packages, ready};

/// Set to anything, a scoped cluster stays up.
const KEEP: &str = "RUSTCI_KEEP_CLUSTER";

/// Where a cluster comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Started by this crate on this machine.
    Own,
    /// Named by `RUSTCI_TEST_KUBECONFIG`, or by `KUBECONFIG` if that one answers.
    Given,
    /// Made with `kind`.
    Kind,
}

/// A running cluster. While a value or a clone of it lives, nobody gets the cluster alone.
#[derive(Clone, Debug)]
pub struct Cluster {
    kind: Kind,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    _user: Option<Arc<User>>,
}

impl Cluster {
    /// Brings the cluster up, or takes the one that runs. It outlives this process, until
    /// [`Cluster::down`].
    ///
    /// # Errors
    /// One sentence about what is missing, or the last log lines of the server that failed.
    pub async fn up() -> Result<Cluster> {
        Self::find_or_start(false, false).await
    }

    /// Like [`Cluster::up`], but the cluster ends when the last scoped user of the machine drops
    /// its value, also by panic, SIGINT or SIGTERM (these two also end the process). It stays
    /// when it was up before, or when `RUSTCI_KEEP_CLUSTER` is set.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub async fn up_scoped() -> Result<Cluster> {
        Self::find_or_start(true, false).await
    }

    /// Like [`Cluster::up_scoped`], but waits until nobody else uses the cluster and keeps
    /// others out. For tests that disturb the whole node.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub async fn up_alone() -> Result<Cluster> {
        Self::find_or_start(true, true).await
    }

    async fn find_or_start(scoped: bool, alone: bool) -> Result<Cluster> {
        let layout = Layout::machine();
        let kubectl = PathBuf::from("kubectl");
        if let Some(kubeconfig) = given::named(&layout).await? {
            eprintln!("using the given cluster of {}", kubeconfig.display());
            return Ok(Cluster {
                kind: Kind::Given,
                kubeconfig,
                kubectl,
                _user: None,
            });
        }
        if given::kind_works() {
            let kubeconfig = given::kind_up(&layout).await?;
            return Ok(Cluster {
                kind: Kind::Kind,
                kubeconfig,
                kubectl,
                _user: None,
            });
        }
        let keep = std::env::var_os(KEEP).is_some();
        let scoped = scoped && !keep;
        let user = if alone {
            User::join_alone().await
        } else {
            User::join(scoped).await
        }?;
        let kubectl = machine::up(&layout, scoped).await?;
        let kubeconfig = layout.kubeconfig();
        Ok(Cluster {
            kind: Kind::Own,
            kubeconfig,
            kubectl,
            _user: Some(Arc::new(user)),
        })
    }

    /// Stops our cluster, whoever uses it, and leaves no process, mount or network of it. Does
    /// nothing to a cluster that somebody named.
    ///
    /// # Errors
    /// What could not be stopped or removed.
    pub async fn down() -> Result<()> {
        blocking(|| {
            given::kind_down()?;
            machine::down(&Layout::machine())
        })
        .await
    }

    /// What runs now.
    ///
    /// # Errors
    /// When the record of our cluster is damaged.
    pub async fn status() -> Result<Status> {
        let layout = Layout::machine();
        if let Some(kubeconfig) = given::named(&layout).await? {
            return Ok(Status::of(Kind::Given, kubeconfig));
        }
        let kind = given::kind_kubeconfig(&layout);
        if given::kind_works() && ready::answers(&kind).await {
            return Ok(Status::of(Kind::Kind, kind));
        }
        let recorded = State::load(&layout)?;
        let healthy = machine::healthy(&layout).await.is_some();
        let processes = recorded.iter().flat_map(|state| &state.processes);
        let processes =
            processes.map(|process| (process.name.clone(), process.pid(), process.runs()));
        Ok(Status {
            kind: Kind::Own,
            healthy,
            kubeconfig: recorded.is_some().then(|| layout.kubeconfig()),
            scoped: recorded.as_ref().is_some_and(|state| state.scoped),
            processes: processes.collect(),
            logs: layout.path("logs"),
        })
    }

    /// Kubeconfig of an administrator, with its certificates inside.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client of an administrator, for the runtime it is made in.
    ///
    /// # Errors
    /// When the kubeconfig is not readable.
    pub async fn client(&self) -> Result<kube::Client> {
        ready::client(&self.kubeconfig).await
    }

    /// Loads the images of a tar into the node; skipped when the same digests are there.
    ///
    /// # Errors
    /// When the tar is damaged, or a given cluster has no way to take images.
    pub async fn load_image(&self, tar: &Path) -> Result<()> {
        let (kind, tar) = (self.kind, tar.to_owned());
        blocking(move || match kind {
            Kind::Own => containers::import(&tar).map(drop),
            Kind::Kind => given::kind_load(&tar),
            Kind::Given => given::load(&tar),
        })
        .await
    }

    /// Where it comes from.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The address under which pods reach servers of this machine; only known for our own.
    pub fn host_ip(&self) -> Option<IpAddr> {
        (self.kind == Kind::Own).then_some(IpAddr::V4(network::NODE_IP))
    }

    /// The `kubectl` that fits it: the built one for our own, else the one on the path.
    pub fn kubectl(&self) -> &Path {
        &self.kubectl
    }
}

/// Installs the system packages that tests need, unless they are there.
///
/// # Errors
/// When something is missing and there is no apt, or we are not root.
pub async fn install_packages() -> Result<()> {
    blocking(packages::ensure).await
}

/// Builds or finds the programs of the cluster without starting anything; gives their folder.
///
/// # Errors
/// When Go is missing or the build fails.
pub async fn build_binaries() -> Result<PathBuf> {
    blocking(|| {
        binaries::containerd()?;
        Ok(binaries::kubernetes()?.dir().to_owned())
    })
    .await
}

/// What [`Cluster::status`] found.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where the cluster comes from.
    pub kind: Kind,
    /// Whether every part runs and answers.
    pub healthy: bool,
    /// Its kubeconfig; `None` when there is no cluster.
    pub kubeconfig: Option<PathBuf>,
    /// Whether it ends with its last user.
    pub scoped: bool,
    /// Name, pid, and whether it still runs, for each recorded process of our own cluster.
    pub processes: Vec<(String, i32, bool)>,
    /// Where the logs of our own cluster lie.
    pub logs: PathBuf,
}

impl Status {
    fn of(kind: Kind, kubeconfig: PathBuf) -> Status {
        Status {
            kind,
            healthy: true,
            kubeconfig: Some(kubeconfig),
            scoped: false,
            processes: Vec::new(),
            logs: PathBuf::new(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kubeconfig) = &self.kubeconfig else {
            return write!(
                f,
                "no cluster is up; start one with `cargo xtask cluster up`"
            );
        };
        let from = match self.kind {
            Kind::Own => "the cluster of this machine",
            Kind::Given => "the given cluster",
            Kind::Kind => "the cluster made by kind",
        };
        let health = if self.healthy {
            "is up"
        } else {
            "is NOT healthy"
        };
        write!(
            f,
            "{from} {health}\n  export KUBECONFIG={}",
            kubeconfig.display()
        )?;
        if self.scoped {
            write!(f, "\n  it ends with the tests that use it")?;
        }
        for (name, pid, runs) in &self.processes {
            write!(
                f,
                "\n  {name:<26}{}",
                if *runs {
                    format!("pid {pid}")
                } else {
                    "ended".into()
                }
            )?;
        }
        if self.kind == Kind::Own {
            write!(f, "\n  logs in {}", self.logs.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_a_server_that_ended() {
        let mut status = Status::of(Kind::Own, "/z/kubeconfig".into());
        status.healthy = false;
        status.processes = vec![("etcd".into(), 7, true), ("kubelet".into(), 8, false)];
        let text = status.to_string();
        assert!(
            text.contains("is NOT healthy") && text.contains("/z/kubeconfig"),
            "{text}"
        );
        assert!(
            text.lines()
                .any(|line| line.contains("etcd") && line.contains("pid 7")),
            "{text}"
        );
        assert!(
            text.lines()
                .any(|line| line.contains("kubelet") && line.contains("ended"))
        );
    }
}
