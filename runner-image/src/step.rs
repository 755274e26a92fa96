//! Runs one step: a script in a shell, its output into a log, its end reported exactly.
//! Must not know other steps, and must return in bounded time once it was told to stop.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::process::{Processes, pid_of};
use crate::stop::StopRequest;

/// Asked of the kernel for a step's output; refused quietly where a user's pipes are limited.
const PIPE_BYTES: i32 = 256 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// The most that is read from a pipe whose writers were killed.
const LAST_READS: usize = 64;
/// How long the kernel may take to end a killed process before it is given up.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;

/// Where the output of a step goes.
pub trait OutputSink {
    /// Waits until more can be taken from a process. Cancel-safe.
    fn room(&mut self) -> impl Future<Output = ()>;

    /// Takes output, always.
    fn write(&mut self, bytes: &[u8]);
}

/// What one step runs.
pub struct StepCommand {
    /// Position in the job, from 0.
    pub index: u32,
    /// Program and arguments; the script's path is added.
    pub shell: Vec<String>,
    /// Passed to the shell byte for byte, in a file.
    pub script: String,
    /// Private directory of the step, made here.
    pub dir: PathBuf,
    /// Where the shell starts.
    pub workdir: PathBuf,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
}

/// How long a step may take to do what.
#[derive(Clone, Copy, Debug)]
pub struct StepLimits {
    /// When the step is over time.
    pub deadline: Option<Instant>,
    /// From TERM to KILL when the deadline has passed.
    pub grace: Duration,
    /// How long a background process may keep the output open after the shell has ended.
    pub drain: Duration,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// By itself, or by a signal that we did not send.
    Ended(ExitStatus),
    /// Stopped because its deadline passed.
    OverTime(Option<ExitStatus>),
    /// Stopped because it was asked for.
    Stopped(Option<ExitStatus>),
}

/// Why a step did not run. The text is for users.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The step names no shell.
    #[error("the step's shell is empty")]
    NoShell,
    /// The shell is not there, or may not be executed.
    #[error("cannot start the shell `{shell}`: {reason}")]
    Shell {
        /// Program of the shell.
        shell: String,
        /// What the system said, in words.
        reason: String,
    },
    /// The directory in which the step should run is not there.
    #[error("the working directory `{}` does not exist", .0.display())]
    Workdir(PathBuf),
    /// A variable has no value.
    #[error("{0}")]
    Variable(String),
    /// It did not run in the other container; the text is that of the error there.
    #[error("{0}")]
    There(String),
    /// The other container ended.
    #[error("the container of its image has ended")]
    Lost,
    /// The agent's own files or pipes.
    #[error("cannot prepare the step: {0}")]
    Setup(#[from] io::Error),
}

/// Runs a step to its end. `stop` is looked at until the step has ended; the first request
/// counts. Dropping the future kills the shell; the job's [`Processes`] kill the rest.
pub async fn run(
    command: &StepCommand,
    processes: &Processes,
    log: &mut impl OutputSink,
    limits: StepLimits,
    stop: &mut watch::Receiver<Option<StopRequest>>,
) -> Result<StepEnd, StepError> {
    let (child, output) = start(command, processes)?;
    let running = Running {
        index: command.index,
        group: pid_of(&child),
        child,
        output: Some(output),
        status: None,
        cause: None,
        kill_at: None,
        drained_by: None,
        killed: false,
    };
    running.watch(processes, log, limits, stop).await
}

fn start(
    command: &StepCommand,
    processes: &Processes,
) -> Result<(Child, pipe::Receiver), StepError> {
    let (program, arguments) = command.shell.split_first().ok_or(StepError::NoShell)?;
    if !command.workdir.is_dir() {
        return Err(StepError::Workdir(command.workdir.clone()));
    }
    DirBuilder::new().mode(0o700).create(&command.dir)?;
    let script = write_script(&command.dir, &command.script)?;
    let (reader, writer) = io::pipe()?;
    let _ = fcntl(&reader, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    let mut shell = Command::new(program);
    shell
        .args(arguments)
        .arg(script)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .env(crate::process::MARK, processes.mark(command.index))
        .current_dir(&command.workdir)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let child = processes
        .spawn(&mut shell)
        .map_err(|error| StepError::Shell {
            shell: program.clone(),
            reason: shell_problem(&error),
        })?;
    // `shell` holds our copies of the writing end, which would hide the end of the output.
    drop(shell);
    Ok((child, pipe::Receiver::from_owned_fd(reader.into())?))
}

fn write_script(dir: &Path, script: &str) -> io::Result<PathBuf> {
    let path = dir.join("script");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    io::Write::write_all(&mut file, script.as_bytes())?;
    Ok(path)
}

fn shell_problem(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such program in the image".to_owned(),
        io::ErrorKind::PermissionDenied => "it may not be executed".to_owned(),
        _ => error.to_string(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    OverTime,
    Stopped,
}

struct Running {
    index: u32,
    group: i32,
    child: Child,
    /// Open until the last writer has closed it or it was given up.
    output: Option<pipe::Receiver>,
    status: Option<ExitStatus>,
    /// Why we signalled it.
    cause: Option<Cause>,
    kill_at: Option<Instant>,
    /// When background processes must have closed the output.
    drained_by: Option<Instant>,
    killed: bool,
}

impl Running {
    async fn watch(
        mut self,
        processes: &Processes,
        log: &mut impl OutputSink,
        limits: StepLimits,
        stop: &mut watch::Receiver<Option<StopRequest>>,
    ) -> Result<StepEnd, StepError> {
        while self.status.is_none() || self.output.is_some() {
            tokio::select! {
                biased;
                request = requested(stop), if self.cause.is_none() => {
                    self.terminate(processes, Cause::Stopped, request.grace);
                }
                () = at(limits.deadline), if self.cause.is_none() && self.status.is_none() => {
                    self.terminate(processes, Cause::OverTime, limits.grace);
                }
                () = at(self.kill_at), if self.kill_at.is_some() => {
                    if self.killed {
                        tracing::warn!(step = self.index, "the step's shell cannot be killed");
                        break;
                    }
                    self.kill(processes).await;
                }
                status = processes.wait(&mut self.child, self.group), if self.status.is_none() => {
                    self.status = Some(status?);
                    let drain = Instant::now() + limits.drain;
                    self.drained_by = Some(self.kill_at.unwrap_or(drain));
                }
                () = at(self.drained_by), if self.drained_by.is_some() => {
                    processes.kill_step(self.index, self.group).await;
                    self.give_up_output(log);
                }
                open = pump(self.output.as_ref(), log), if self.output.is_some() => {
                    if !open? {
                        self.output = None;
                    }
                }
            }
        }
        self.give_up_output(log);
        Ok(self.end(processes).await)
    }

    fn terminate(&mut self, processes: &Processes, cause: Cause, grace: Duration) {
        self.cause = Some(cause);
        self.kill_at = Some(Instant::now() + grace);
        if self.drained_by.is_some() {
            self.drained_by = self.kill_at;
        }
        processes.signal_group(self.group, Signal::SIGTERM);
        // A stopped process acts on TERM only when it goes on.
        processes.signal_group(self.group, Signal::SIGCONT);
    }

    async fn kill(&mut self, processes: &Processes) {
        self.killed = true;
        self.kill_at = Some(Instant::now() + KILL_PATIENCE);
        processes.kill_step(self.index, self.group).await;
    }

    /// Takes what is left in the pipe, without waiting for its writers and without regard to the
    /// spool's bound, which is passed by the size of a pipe at most.
    fn give_up_output(&mut self, log: &mut impl OutputSink) {
        self.drained_by = None;
        let Some(output) = self.output.take() else {
            return;
        };
        let mut buffer = vec![0; READ_BYTES];
        for _ in 0..LAST_READS {
            match output.try_read(&mut buffer) {
                Ok(count) if count > 0 => log.write(&buffer[..count]),
                _ => return,
            }
        }
    }

    /// Lets the rest of a stopped group use its grace, then kills it.
    async fn end(self, processes: &Processes) -> StepEnd {
        let Some(cause) = self.cause else {
            let status = self
                .status
                .expect("only a stopped step is given up without its status");
            return StepEnd::Ended(status);
        };
        if let (false, Some(deadline)) = (self.killed, self.kill_at) {
            processes.group_ended(self.group, deadline).await;
            processes.kill_step(self.index, self.group).await;
        }
        match cause {
            Cause::OverTime => StepEnd::OverTime(self.status),
            Cause::Stopped => StepEnd::Stopped(self.status),
        }
    }
}

/// Moves what the pipe holds into the log, when the log has room; `false` at the end of the
/// output. Cancel-safe: nothing is awaited after the bytes have left the pipe.
async fn pump(output: Option<&pipe::Receiver>, log: &mut impl OutputSink) -> io::Result<bool> {
    let Some(output) = output else {
        return Ok(false);
    };
    log.room().await;
    output.readable().await?;
    let mut buffer = Vec::with_capacity(READ_BYTES);
    match output.try_read_buf(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(_) => {
            log.write(&buffer);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// The first request to stop; never returns when none can come any more.
pub(crate) async fn requested(stop: &mut watch::Receiver<Option<StopRequest>>) -> StopRequest {
    // The request is copied out first: what the watch lends must not live across an await.
    let request = stop.wait_for(Option::is_some).await.map(|request| *request);
    match request {
        Ok(Some(request)) => request,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

pub(crate) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The signal's name without number, such as `SIGKILL`.
pub fn signal_name(status: ExitStatus) -> Option<String> {
    let number = status.signal()?;
    let known = Signal::try_from(number).map(|signal| signal.as_str().to_owned());
    Some(known.unwrap_or_else(|_| format!("signal {number}")))
}
