//! Processes that are told things by lines and answer by lines of JSON.
//! Must not leave one behind.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::machine::Usage;

pub(crate) struct Child {
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    name: String,
}

impl Child {
    /// This program with these arguments, perhaps in a network namespace.
    pub(crate) fn start(namespace: Option<&str>, arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = match namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        command.args(arguments);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start a process")?;
        let stdout = process.stdout.take().context("no standard output")?;
        Ok(Self {
            stdin: process.stdin.take(),
            stdout: BufReader::new(stdout),
            process,
            name: arguments.join(" "),
        })
    }

    /// The next line it prints.
    pub(crate) fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line)?;
        anyhow::ensure!(read > 0, "`{}` ended without a result", self.name);
        Ok(serde_json::from_str(&line)?)
    }

    /// Tells it something and gives its answer.
    pub(crate) fn ask(&mut self, what: &str) -> Result<Value> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        writeln!(stdin, "{what}")?;
        self.line()
    }

    /// What it has used so far.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        Ok(serde_json::from_value(self.ask("usage")?)?)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stdin = None;
        // It ends with its input; one that does not is ended.
        for _ in 0..50 {
            if matches!(self.process.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
