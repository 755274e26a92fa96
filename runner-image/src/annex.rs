//! Runs steps in another container of the pod: the agent's side of the connection.
//! Must not decide anything about a step: the same code runs it there as here.

mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::server::serve;
use self::wire::{Frames, FromAnnex, StepOrder, ToAnnex, write};
use crate::log::StepLog;
use crate::step::{self, OutputSink, StepEnd, StepError, StepLimits};
use crate::stop::StopRequest;
use crate::workplace::AnnexCommand;

/// How often a socket that will be there in a moment is looked for.
const POLL: Duration = Duration::from_millis(2);
/// How long an annex may take to end its processes when the job is over.
const FAREWELL: Duration = Duration::from_secs(10);

/// Why an annex cannot be used. The text is for the people who run the cluster.
#[derive(Debug, Error)]
pub enum AnnexError {
    /// The socket cannot be made.
    #[error("cannot listen on {}: {source}", .path.display())]
    Listen {
        /// Where the socket should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody listens.
    #[error("cannot reach the container behind {}: {source}", .path.display())]
    Reach {
        /// Where the socket should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Processes cannot be supervised.
    #[error("cannot supervise processes: {0}")]
    Processes(io::Error),
}

/// The other containers of a job, in the order of their numbers from 1. All are connected before
/// the first step runs, so no step can put itself in their place.
#[derive(Default)]
pub struct Annexes(Vec<Annex>);

/// A connection to one other container.
struct Annex {
    /// None once it has ended.
    frames: Option<Frames<UnixStream>>,
}

/// How a step in an annex ended.
pub(crate) struct AnnexEnd {
    pub(crate) end: Result<StepEnd, StepError>,
    /// The kernel killed a process of it for want of memory.
    pub(crate) starved: bool,
    /// The container itself ended.
    pub(crate) lost: bool,
}

/// Where the annex of a number, from 1, listens: beside the carrier's socket.
pub fn socket(carrier: &Path, number: usize) -> PathBuf {
    carrier.with_file_name(format!("annex-{number}.sock"))
}

impl Annexes {
    /// Connects to this many annexes, waiting for their sockets up to `patience`.
    pub async fn connect(
        carrier: &Path,
        count: usize,
        patience: Duration,
    ) -> Result<Self, AnnexError> {
        let deadline = Instant::now() + patience;
        let mut annexes = Vec::with_capacity(count);
        for number in 1..=count {
            let path = socket(carrier, number);
            let stream = loop {
                match UnixStream::connect(&path).await {
                    Ok(stream) => break stream,
                    Err(source) if Instant::now() >= deadline => {
                        return Err(AnnexError::Reach { path, source });
                    }
                    Err(_) => tokio::time::sleep(POLL).await,
                }
            };
            annexes.push(Annex {
                frames: Some(Frames::new(stream)),
            });
        }
        Ok(Self(annexes))
    }

    /// Runs a step in the annex of a number, from 1.
    pub(crate) async fn run(
        &mut self,
        number: u32,
        command: &AnnexCommand,
        log: &mut StepLog,
        limits: StepLimits,
        stop: &mut watch::Receiver<Option<StopRequest>>,
    ) -> AnnexEnd {
        let annex = usize::try_from(number)
            .ok()
            .and_then(|number| self.0.get_mut(number.checked_sub(1)?));
        let Some(annex) = annex else {
            return AnnexEnd::lost();
        };
        match annex.run(command, log, limits, stop).await {
            Ok(end) => end,
            Err(error) => {
                tracing::warn!(number, %error, "the other container is gone");
                annex.frames = None;
                AnnexEnd::lost()
            }
        }
    }

    /// Ends every process in the annexes, and the annexes.
    pub(crate) async fn end(self) {
        let farewells = self.0.into_iter().filter_map(|annex| annex.frames);
        for mut frames in farewells {
            let gone = async {
                frames.shutdown().await?;
                while frames.next::<FromAnnex>().await?.is_some() {}
                Ok::<_, io::Error>(())
            };
            if !matches!(tokio::time::timeout(FAREWELL, gone).await, Ok(Ok(()))) {
                tracing::warn!("another container did not end its processes in time");
            }
        }
    }
}

impl Annex {
    async fn run(
        &mut self,
        command: &AnnexCommand,
        log: &mut StepLog,
        limits: StepLimits,
        stop: &mut watch::Receiver<Option<StopRequest>>,
    ) -> io::Result<AnnexEnd> {
        let frames = self.frames.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let order = StepOrder::new(command, limits);
        write(frames.stream(), &ToAnnex::run(order)).await?;
        let mut is_stopped = false;
        loop {
            // Who was told to end may say its last words without regard to the spool's bound.
            let is_late = limits.deadline.is_some_and(|by| by <= Instant::now());
            let has_room = is_stopped || is_late;
            let next = async {
                if !has_room {
                    log.room().await;
                }
                frames.readable().await
            };
            tokio::select! {
                biased;
                request = step::requested(stop), if !is_stopped => {
                    is_stopped = true;
                    write(frames.stream(), &ToAnnex::stop(request.grace)).await?;
                }
                () = step::at(limits.deadline), if !has_room => {}
                ready = next => {
                    ready?;
                    let Some(frame) = frames.buffered::<FromAnnex>()? else { continue };
                    if let Some(end) = frame.apply(log)? {
                        return Ok(end);
                    }
                }
            }
        }
    }
}

impl AnnexEnd {
    fn lost() -> Self {
        Self {
            end: Err(StepError::Lost),
            starved: false,
            lost: true,
        }
    }
}
