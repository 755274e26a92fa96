//! Signals: what Ctrl-C stops, what still runs, and that no process stays behind.
//! Must not wait for fixed times.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::workspace::Workspace;

/// Longest wait for anything here.
const LIMIT: Duration = Duration::from_secs(60);

/// A run whose job leaves its group, and that has a slow `finally` job on demand.
fn pipeline(finally: &str) -> String {
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
        sleep 4242 &
        setsid sleep 4242 &
        echo ready
        sleep 4242
  finally:
  - name: tidy
    image: localhost/busybox:1
    steps: [{{name: rake, run: '{finally}'}}]
"
    )
}

/// A program that runs, and what it has printed.
struct Running {
    workspace: Workspace,
    child: Child,
    printed: String,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(pipeline: &str) -> Self {
        let workspace = Workspace::new();
        workspace.file("pipeline.yaml", pipeline);
        let mut command = workspace.command(&["run", "pipeline.yaml"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            workspace,
            child,
            printed: String::new(),
            lines,
        }
    }

    /// Reads until a line holds this text.
    fn until(&mut self, text: &str) -> &mut Self {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.printed.push_str(&line);
            self.printed.push('\n');
            if line.contains(text) {
                return self;
            }
        }
        panic!("no `{text}` in\n{}", self.printed);
    }

    fn signal(&mut self, signal: Signal) -> &mut Self {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
        self
    }

    /// Reads to the end. Returns the exit code and everything printed, when no process is left.
    fn end(mut self) -> (Option<i32>, String) {
        for line in self.lines.by_ref() {
            self.printed.push_str(&line.unwrap());
            self.printed.push('\n');
        }
        let code = self.child.wait().unwrap().code();
        let folder = self.workspace.path().canonicalize().unwrap();
        let deadline = Instant::now() + LIMIT;
        // A killed process is there until its parent has taken note of its end.
        while !processes_in(&folder).is_empty() {
            assert!(
                Instant::now() < deadline,
                "left: {:?}",
                processes_in(&folder)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        (code, self.printed)
    }
}

/// Command lines of the living processes whose working directory is in a folder.
fn processes_in(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let inside = entries.map(|entry| entry.path()).filter(|process| {
        std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    });
    inside
        .map(|process| {
            let text = std::fs::read(process.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&text).replace('\0', " ")
        })
        .collect()
}

#[test]
fn ctrl_c_cancels_the_run_runs_finally_and_leaves_no_process() {
    let mut running = Running::start(&pipeline("echo raked"));
    running.until("[fell/saw] ready").signal(Signal::SIGINT);
    let (code, printed) = running.end();
    assert_eq!(code, Some(3), "{printed}");
    assert!(printed.contains("[tidy/rake] raked"), "{printed}");
    assert!(printed.contains("job fell cancelled"), "{printed}");
}

#[test]
fn sigterm_cancels_like_ctrl_c() {
    let mut running = Running::start(&pipeline("echo raked"));
    running.until("[fell/saw] ready").signal(Signal::SIGTERM);
    let (code, printed) = running.end();
    assert_eq!(code, Some(3), "{printed}");
    assert!(printed.contains("[tidy/rake] raked"), "{printed}");
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let mut running = Running::start(&pipeline("echo raking; sleep 4242"));
    running.until("[fell/saw] ready").signal(Signal::SIGINT);
    running.until("[tidy/rake] raking").signal(Signal::SIGINT);
    let (code, printed) = running.end();
    assert_eq!(code, Some(3), "{printed}");
}

#[test]
fn a_closed_output_cancels_the_run() {
    let mut running = Running::start(&pipeline("touch ../../../../raked"));
    running.until("job fell running");
    let Running {
        workspace,
        mut child,
        lines,
        ..
    } = running;
    drop(lines);
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(Instant::now() < deadline, "it goes on without an output"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(5), "the output could not be written");
    assert!(processes_in(&workspace.path().canonicalize().unwrap()).is_empty());
}
