//! Times the local run.
//! Must not leave files behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

const PIPELINE: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: one-step}
spec:
  jobs:
    - {name: echo, image: localhost/busybox:1, steps: [{name: s0, run: echo hello}]}
";

/// Seconds of one `rustci run` of a one-step pipeline, from start to exit of the program.
pub(crate) fn local(rustci: &Path) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pipeline.yaml");
    std::fs::write(&file, PIPELINE)?;
    let start = Instant::now();
    let status = Command::new(rustci)
        .current_dir(folder.path())
        .arg("run")
        .arg(&file)
        .stdout(Stdio::null())
        .status()?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "rustci run failed: {status}");
    Ok(seconds)
}
