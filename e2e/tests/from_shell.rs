//! The operator in a developer's shell, against the cluster: agents dial this machine.
//! A file of its own, since the other tests share the operator in the cluster.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::JobState;
use e2e::cluster::{from_environment, kubeconfig};
use e2e::in_cluster::job_log;
use e2e::namespace::{TestNamespace, job};
use e2e::operator;
use e2e::pipeline::{OneJob, UNTIL_LET_GO};
use e2e::rustci::rustci_in_cluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const LIMIT: Duration = Duration::from_secs(120);
const LOG: &[u8] = b"started\nlet go\n";

/// The operator's program, with its data and its own log in a folder.
struct Shell {
    child: Child,
    host: String,
    folder: TempDir,
}

impl Shell {
    fn start() -> Result<Self> {
        let host = from_environment("RUSTCI_E2E_HOST_IP")?;
        let host = host.to_str().context("RUSTCI_E2E_HOST_IP")?.to_owned();
        let folder = tempfile::tempdir()?;
        let any_port = format!("{host}:0");
        let child = Command::new(from_environment("RUSTCI_E2E_OPERATOR")?)
            .env("KUBECONFIG", kubeconfig()?)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--advertise", &any_port])
            .args(["--listen-hub", &any_port])
            .args(["--listen-http", &any_port])
            .stdin(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            child,
            host,
            folder,
        })
    }

    /// What the developer would do: Ctrl-C.
    async fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().context("the operator has ended")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGINT)?;
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await??;
        ensure!(status.success(), "the operator ended with {status}");
        Ok(())
    }
}

/// The rest of the test runs with the operator in the cluster again, whatever the outcome.
async fn in_a_shell(namespace: &TestNamespace) -> Result<()> {
    operator::remove(namespace, LIMIT).await?;
    let mut shell = Shell::start()?;
    let outcome = a_run_succeeds(namespace, &mut shell).await;
    let log = std::fs::read_to_string(shell.folder.path().join("log"))?;
    outcome.with_context(|| format!("the operator in the shell says:\n{log}"))
}

async fn a_run_succeeds(namespace: &TestNamespace, shell: &mut Shell) -> Result<()> {
    let pipeline = OneJob::new("shell", UNTIL_LET_GO);
    namespace.apply(&pipeline.manifest()).await?;
    let (run, pod) = namespace.running("shell", "only", LIMIT).await?;
    let logs = |more: &[&str]| {
        let mut command = rustci_in_cluster()?;
        command.args([
            "logs",
            &run,
            "--raw",
            "--job",
            "only",
            "-n",
            &namespace.name,
        ]);
        command.args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        anyhow::Ok(command)
    };
    let follower = logs(&["-f"])?.spawn()?;
    namespace.let_go(&pod).await?;
    let ended = namespace.ended(&run, LIMIT).await?;
    let only = job(&ended, "only")?;
    ensure!(only.state == JobState::Succeeded, "{only:#?}");
    let followed = tokio::time::timeout(LIMIT, follower.wait_with_output()).await??;
    ensure!(followed.stdout == LOG, "{followed:?}");
    ensure!(job_log(namespace, &run, "only").await? == LOG);

    // Without its operator a log cannot be read, and the user is told what helps.
    shell.stop().await?;
    let mut reader = logs(&[])?.spawn()?;
    let mut told = BufReader::new(reader.stderr.take().context("stderr")?).lines();
    let told = tokio::time::timeout(LIMIT, told.next_line()).await??;
    let Some(told) = told else {
        bail!("rustci logs says nothing");
    };
    ensure!(
        told.contains(&shell.host) && told.contains("--data-dir"),
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn a_run_succeeds_with_the_operator_in_a_shell() -> Result<()> {
    TestNamespace::with("shell", |namespace| async move {
        let outcome = in_a_shell(&namespace).await;
        operator::restore(&namespace).await?;
        outcome
    })
    .await
}
