//! What the agent and its annex say to each other: frames of a length and a message. Both are the
//! same program, so nothing here has to be understood by another version.
//! Must not touch processes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::AnnexEnd;
use crate::log::StepLog;
use crate::step::{OutputSink, StepEnd, StepError, StepLimits};
use crate::workplace::AnnexCommand;

/// Largest frame: three levels of environment at their bounds, and the script.
const MAX_FRAME: usize = 16 << 20;
const LENGTH: usize = 4;
const READ: usize = 64 * 1024;

/// What the agent says.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ToAnnex {
    /// Run this step.
    #[prost(message, optional, tag = "1")]
    pub(super) run: Option<StepOrder>,
    /// Stop the step, with this many milliseconds from TERM to KILL.
    #[prost(uint64, optional, tag = "2")]
    pub(super) stop_grace_ms: Option<u64>,
}

/// One step to run.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct StepOrder {
    #[prost(uint32, tag = "1")]
    pub(super) index: u32,
    #[prost(string, repeated, tag = "2")]
    pub(super) shell: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) script: String,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) dir: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) workdir: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) home: Vec<u8>,
    #[prost(message, repeated, tag = "7")]
    pub(super) env: Vec<Variable>,
    /// Time until its deadline, in milliseconds.
    #[prost(uint64, optional, tag = "8")]
    pub(super) time_ms: Option<u64>,
    #[prost(uint64, tag = "9")]
    pub(super) grace_ms: u64,
    #[prost(uint64, tag = "10")]
    pub(super) drain_ms: u64,
}

/// Without its environment: that may hold secrets.
impl std::fmt::Debug for StepOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepOrder")
            .field("index", &self.index)
            .field("shell", &self.shell)
            .finish_non_exhaustive()
    }
}

/// One variable; without a value it is unset.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct Variable {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) name: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) value: Option<Vec<u8>>,
}

/// Without its value.
impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = String::from_utf8_lossy(&self.name);
        f.debug_tuple("Variable").field(&name).finish()
    }
}

/// What the annex says.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FromAnnex {
    /// Output of the step.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) output: Vec<u8>,
    /// Its end, after all of its output.
    #[prost(message, optional, tag = "2")]
    pub(super) end: Option<Ended>,
}

/// How a step ended.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Ended {
    /// Why it ended.
    #[prost(enumeration = "Cause", tag = "1")]
    pub(super) cause: i32,
    /// The shell's status, as the system gives it.
    #[prost(int32, optional, tag = "2")]
    pub(super) status: Option<i32>,
    /// Why it did not run.
    #[prost(string, tag = "3")]
    pub(super) error: String,
    /// The kernel killed a process for want of memory.
    #[prost(bool, tag = "4")]
    pub(super) starved: bool,
}

/// Why a step ended.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Cause {
    /// It did not run.
    Failed = 0,
    /// By itself.
    Ended = 1,
    /// Its deadline passed.
    OverTime = 2,
    /// It was asked for.
    Stopped = 3,
}

impl ToAnnex {
    pub(super) fn run(order: StepOrder) -> Self {
        Self {
            run: Some(order),
            stop_grace_ms: None,
        }
    }

    pub(super) fn stop(grace: Duration) -> Self {
        Self {
            run: None,
            stop_grace_ms: Some(millis(grace)),
        }
    }
}

impl StepOrder {
    pub(super) fn new(command: &AnnexCommand, limits: StepLimits) -> Self {
        let AnnexCommand { step, env, home } = command;
        let left = |by: Instant| by.saturating_duration_since(Instant::now());
        let bytes = |text: &OsStr| text.as_bytes().to_vec();
        Self {
            index: step.index,
            shell: step.shell.clone(),
            script: step.script.clone(),
            dir: bytes(step.dir.as_os_str()),
            workdir: bytes(step.workdir.as_os_str()),
            home: bytes(home.as_os_str()),
            env: env
                .iter()
                .map(|(name, value)| Variable {
                    name: bytes(name),
                    value: value.as_deref().map(bytes),
                })
                .collect(),
            time_ms: limits.deadline.map(|by| millis(left(by))),
            grace_ms: millis(limits.grace),
            drain_ms: millis(limits.drain),
        }
    }
}

impl Variable {
    pub(super) fn parts(self) -> (OsString, Option<OsString>) {
        (
            OsString::from_vec(self.name),
            self.value.map(OsString::from_vec),
        )
    }
}

impl FromAnnex {
    pub(super) fn output(bytes: &[u8]) -> Self {
        Self {
            output: bytes.to_vec(),
            end: None,
        }
    }

    pub(super) fn end(end: &Result<StepEnd, StepError>, starved: bool) -> Self {
        let (cause, status, error) = match end {
            Ok(StepEnd::Ended(status)) => (Cause::Ended, Some(*status), String::new()),
            Ok(StepEnd::OverTime(status)) => (Cause::OverTime, *status, String::new()),
            Ok(StepEnd::Stopped(status)) => (Cause::Stopped, *status, String::new()),
            Err(error) => (Cause::Failed, None, error.to_string()),
        };
        let end = Ended {
            cause: cause.into(),
            status: status.map(ExitStatusExt::into_raw),
            error,
            starved,
        };
        Self {
            output: Vec::new(),
            end: Some(end),
        }
    }

    /// Takes its output into the log, or gives the end.
    pub(super) fn apply(self, log: &mut StepLog) -> io::Result<Option<AnnexEnd>> {
        log.write(&self.output);
        let Some(ended) = self.end else {
            return Ok(None);
        };
        let status = ended.status.map(ExitStatus::from_raw);
        let end = match (ended.cause(), status) {
            (Cause::Failed, _) => Err(StepError::There(ended.error)),
            (Cause::Ended, Some(status)) => Ok(StepEnd::Ended(status)),
            (Cause::Ended, None) => return Err(io::ErrorKind::InvalidData.into()),
            (Cause::OverTime, status) => Ok(StepEnd::OverTime(status)),
            (Cause::Stopped, status) => Ok(StepEnd::Stopped(status)),
        };
        Ok(Some(AnnexEnd {
            end,
            starved: ended.starved,
            lost: false,
        }))
    }
}

/// Reads frames from a stream.
pub(super) struct Frames<S> {
    stream: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + Unpin> Frames<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next message, or none at the end of the stream. Cancel-safe.
    pub(super) async fn next<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(message));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Waits until a whole message is buffered, or more of it has come. Cancel-safe.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        if self.has_whole()? || self.more().await? {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// The next message, if it is here.
    pub(super) fn buffered<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        if !self.has_whole()? {
            return Ok(None);
        }
        let length = self.buffer.get_u32() as usize;
        let message = self.buffer.split_to(length);
        M::decode(message)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn has_whole(&self) -> io::Result<bool> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH>() else {
            return Ok(false);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(rest.len() >= length)
    }

    async fn more(&mut self) -> io::Result<bool> {
        self.buffer.reserve(READ);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

impl<S: AsyncWrite + Unpin> Frames<S> {
    /// Says that nothing more will come.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

/// Writes one message. Not cancel-safe: half of it may be written.
pub(super) async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    message: &impl Message,
) -> io::Result<()> {
    let length = message.encoded_len();
    if length > MAX_FRAME {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut frame = Vec::with_capacity(LENGTH + length);
    let length = u32::try_from(length).expect("a frame is smaller than 4 GiB");
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message.encode_to_vec());
    stream.write_all(&frame).await
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
