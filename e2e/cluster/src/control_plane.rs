//! etcd and kube-apiserver alone, for tests that need no pods.
//! It must not need root, nor leave a process when the test dies in whatever way.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::binaries::{self, Binaries};
use crate::machine::blocking;
use crate::pki::Pki;
use crate::process::PidRecord;
use crate::ready::{self, Server};
use crate::servers::{self, Ports};

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// A running etcd and kube-apiserver on free ports of the loopback address. There are no
/// controllers: namespaces stay in deletion, and nothing is collected.
#[derive(Debug)]
pub struct ControlPlane {
    // The servers end before their folder goes.
    _servers: [Supervised; 2],
    _dir: TempDir,
    kubeconfig: PathBuf,
}

impl ControlPlane {
    /// Starts a new one, used by nobody else and stopped on drop. Takes about three seconds.
    ///
    /// # Errors
    /// What is missing for the build, or the last log lines of the server that failed.
    pub async fn start() -> Result<ControlPlane> {
        let binaries = blocking(binaries::kubernetes).await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::try_start(&binaries).await {
                // Another process was quicker to take the port.
                Err(error) if attempts < 3 && format!("{error:#}").contains("already in use") => {}
                other => return other,
            }
        }
    }

    /// The one that all tests of this process share; it ends with the process. Tests keep apart
    /// by namespaces. Each test binary has its own: cargo runs them one after the other, and
    /// cluster-wide objects of one then never disturb another.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn shared() -> Result<&'static ControlPlane> {
        SHARED.get_or_try_init(Self::start).await
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

    async fn try_start(binaries: &Binaries) -> Result<ControlPlane> {
        let dir = tempfile::Builder::new()
            .prefix("rustci-control-plane-")
            .tempdir()?;
        let ports = Ports::free()?;
        let pki = Pki::create(&dir.path().join("pki"))?;
        servers::issue_certificates(&pki, std::net::Ipv4Addr::LOCALHOST)?;
        let kubeconfig = dir.path().join("kubeconfig");
        pki.write_kubeconfig(
            "admin",
            &format!("https://127.0.0.1:{}", ports.api),
            &kubeconfig,
        )?;
        let start = |name: &str, arguments: Vec<String>| {
            Supervised::start(name, &binaries.path(name), &arguments, dir.path())
        };
        let etcd = start("etcd", servers::etcd(&dir.path().join("etcd"), ports))?;
        etcd.wait("etcd listens", || async move {
            tokio::net::TcpStream::connect(("127.0.0.1", ports.etcd))
                .await
                .is_ok()
        })
        .await?;
        let apiserver = start("kube-apiserver", servers::apiserver(&pki, ports, None))?;
        let client = ready::client(&kubeconfig).await?;
        apiserver
            .wait("the API server is ready", || ready::api_ready(&client))
            .await?;
        Ok(ControlPlane {
            _servers: [apiserver, etcd],
            _dir: dir,
            kubeconfig,
        })
    }
}

/// Runs a server and kills it when standard input ends, which the system sees to however our
/// process goes; then removes the folder, in case we could not. A death signal tied to us would
/// not do: it comes when the starting *thread* ends.
const SUPERVISOR: &str = r#"
exec 3<&0 </dev/null
dir=$1; shift
setpriv --pdeathsig KILL -- "$@" 3<&- &
server=$!
(
    read -r _ <&3
    kill -9 $server 2>/dev/null
    while kill -0 $server 2>/dev/null; do sleep 0.02; done
    rm -rf "$dir"
) >/dev/null 2>&1 &
exec 3<&-
wait $server
"#;

/// A server under a shell that ends it with us.
#[derive(Debug)]
struct Supervised {
    shell: Child,
    record: PidRecord,
    log: PathBuf,
}

impl Supervised {
    fn start(name: &str, program: &Path, arguments: &[String], dir: &Path) -> Result<Supervised> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log)?;
        let shell = Command::new("sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(dir)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            // Ctrl-C reaches the test alone, which then ends or cleans up in its own way.
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start {name}"))?;
        let pid = i32::try_from(shell.id()).context("a pid fits in i32")?;
        let record = PidRecord::of(name, pid).with_context(|| format!("{name} ended at once"))?;
        Ok(Supervised { shell, record, log })
    }

    async fn wait<F: Future<Output = bool>>(
        &self,
        what: &str,
        check: impl FnMut() -> F,
    ) -> Result<()> {
        let server = Server {
            record: &self.record,
            log: &self.log,
        };
        ready::until(what, server, Duration::from_secs(60), check).await
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It ends by itself now; there is nothing to do about an error.
        let _ = self.shell.wait();
    }
}
