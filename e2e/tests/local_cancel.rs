//! Ctrl-C in local mode: the run is cancelled, `finally` runs, no process stays.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::rustci::rustci;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};

const PIPELINE: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: interrupted}
spec:
  jobs:
    - name: slow
      image: localhost/busybox:1
      steps:
        - name: wait
          run: |
            sleep 4711 &
            echo started
            sleep 4711
  finally:
    - name: tidy
      image: localhost/busybox:1
      steps: [{name: sweep, run: echo tidied}]
";

#[tokio::test]
async fn ctrl_c_cancels_the_run_and_leaves_no_process() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("pipeline.yaml"), PIPELINE)?;
    let mut child = rustci()?
        .current_dir(folder.path())
        .args(["run", "pipeline.yaml"])
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id().context("pid")?)?);
    let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
    let mut printed = String::new();
    while let Some(line) =
        tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await??
    {
        printed += &line;
        printed.push('\n');
        if line.contains("started") && line.contains("slow") && line.contains(']') {
            kill(pid, Signal::SIGINT)?;
        }
    }
    let status = tokio::time::timeout(Duration::from_secs(60), child.wait()).await??;
    ensure!(status.code() == Some(3), "{status}\n{printed}");
    ensure!(
        printed.contains("tidied"),
        "finally did not run:\n{printed}"
    );
    let folder = folder.path().canonicalize()?;
    ensure!(
        processes_in(&folder)?.is_empty(),
        "left: {:?}",
        processes_in(&folder)?
    );
    Ok(())
}

/// Command lines of the processes whose working directory is in a folder.
fn processes_in(folder: &std::path::Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Ok(directory) = std::fs::read_link(path.join("cwd")) else {
            continue;
        };
        if directory.starts_with(folder) {
            let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    Ok(found)
}
