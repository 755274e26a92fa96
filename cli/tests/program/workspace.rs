//! A temporary directory in which the program runs.
//! Must not expect anything of the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory that goes with the test.
pub(crate) struct Workspace {
    folder: tempfile::TempDir,
}

/// What the program printed and how it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file; returns its name.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path().join(name), text).unwrap();
        name.to_owned()
    }

    /// The program in this directory, without a terminal or a cluster.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustci"));
        command
            .args(arguments)
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
            .env_remove("KUBECONFIG")
            .env_remove("RUSTCI_LOG")
            .env("HOME", self.path());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn rustci(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    /// Writes a pipeline and runs it.
    pub(crate) fn run(&self, pipeline: &str, options: &[&str]) -> Ended {
        let file = self.file("pipeline.yaml", pipeline);
        self.rustci(&[&["run", &file], options].concat())
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("the output is always UTF-8"),
            err: String::from_utf8(output.stderr).expect("the output is always UTF-8"),
        }
    }
}

impl Ended {
    /// Fails with everything that was printed unless the program ended with this code.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n{}\n{}", self.out, self.err);
        self
    }

    /// Fails with everything that was printed unless this was printed.
    #[track_caller]
    pub(crate) fn has(self, text: &str) -> Self {
        assert!(
            self.out.contains(text),
            "no `{text}` in\n{}\n{}",
            self.out,
            self.err
        );
        self
    }

    /// Fails if this was printed.
    #[track_caller]
    pub(crate) fn has_not(self, text: &str) -> Self {
        assert!(!self.out.contains(text), "`{text}` in\n{}", self.out);
        self
    }
}

/// An example of the repository.
pub(crate) fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name);
    path.to_str().unwrap().to_owned()
}

/// A pipeline with one job of one step.
pub(crate) fn one_step(script: &str) -> String {
    let script = script.replace('\n', "\n          ");
    format!(
        "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {{name: copse}}
spec:
  jobs:
    - name: fell
      image: localhost/busybox:1
      steps:
      - name: saw
        run: |
          {script}
"
    )
}
