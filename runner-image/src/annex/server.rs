//! Runs the steps that the agent sends, one after the other: the first process of another
//! container of the job.
//! Must not run anything for anybody but the first who connects, and must leave no process behind.

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::AnnexError;
use super::wire::{Frames, FromAnnex, StepOrder, ToAnnex, Variable, write};
use crate::environment::Environment;
use crate::memory;
use crate::process::{Ownership, Processes};
use crate::step::{self, OutputSink, StepCommand, StepLimits};
use crate::stop::{StopReason, StopRequest};

/// Output that may wait for the agent before a step that writes is held up.
const QUEUE_BYTES: usize = 256 * 1024;

/// How long the agent may take to read what is left.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Serves the first peer of `socket` until it goes; then every process of its steps is ended.
pub async fn serve(
    socket: &Path,
    environment: &Environment,
    ownership: Ownership,
) -> Result<(), AnnexError> {
    let failed = |source| AnnexError::Listen {
        path: socket.to_owned(),
        source,
    };
    let listener = UnixListener::bind(socket).map_err(failed)?;
    let (peer, _) = listener.accept().await.map_err(failed)?;
    drop(listener);
    // Nothing depends on the file: a second peer finds no listener either way.
    let _ = fs::remove_file(socket);
    let processes = Processes::new(ownership).map_err(AnnexError::Processes)?;
    let (read, write) = peer.into_split();
    let (outbox, writer) = Outbox::new(write);
    let mut writing = JoinSet::new();
    writing.spawn(writer);
    let mut annex = Annex {
        frames: Frames::new(read),
        outbox,
        environment,
        processes: &processes,
    };
    if let Err(error) = annex.steps().await {
        tracing::warn!(%error, "the agent is gone");
    }
    processes.kill_job().await;
    // The end of the stream tells the agent that no process is left.
    drop(annex);
    let _ = tokio::time::timeout(LAST_WORDS, writing.join_next()).await;
    Ok(())
}

struct Annex<'a> {
    frames: Frames<OwnedReadHalf>,
    outbox: Outbox,
    environment: &'a Environment,
    processes: &'a Processes,
}

impl Annex<'_> {
    async fn steps(&mut self) -> io::Result<()> {
        while let Some(message) = self.frames.next::<ToAnnex>().await? {
            // A request to stop may cross the step's end.
            let Some(order) = message.run else { continue };
            self.step(order).await?;
        }
        Ok(())
    }

    async fn step(&mut self, order: StepOrder) -> io::Result<()> {
        let (command, limits) = self.command(order);
        let (stop, mut stopped) = watch::channel(None);
        let kills = memory::oom_kills();
        let mut output = self.outbox.clone();
        let running = step::run(&command, self.processes, &mut output, limits, &mut stopped);
        tokio::pin!(running);
        let end = loop {
            tokio::select! {
                biased;
                end = &mut running => break end,
                message = self.frames.next::<ToAnnex>() => {
                    let message = message?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    stop.send_replace(message.stop_grace_ms.map(|grace| StopRequest {
                        // The agent knows the reason.
                        reason: StopReason::Cancelled,
                        grace: Duration::from_millis(grace),
                    }));
                }
            }
        };
        let starved = memory::oom_kills() > kills;
        self.outbox.send(FromAnnex::end(&end, starved));
        Ok(())
    }

    fn command(&self, order: StepOrder) -> (StepCommand, StepLimits) {
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        let mut env = self.environment.base(&path(order.home));
        for (name, value) in order.env.into_iter().map(Variable::parts) {
            match value {
                Some(value) => drop(env.insert(name, value)),
                None => drop(env.remove(&name)),
            }
        }
        let command = StepCommand {
            index: order.index,
            shell: order.shell,
            script: order.script,
            dir: path(order.dir),
            workdir: path(order.workdir),
            env: env.into_iter().collect(),
        };
        let time = order.time_ms.map(Duration::from_millis);
        let limits = StepLimits {
            deadline: time.and_then(|time| Instant::now().checked_add(time)),
            grace: Duration::from_millis(order.grace_ms),
            drain: Duration::from_millis(order.drain_ms),
        };
        (command, limits)
    }
}

/// Output and ends on their way to the agent, in order. Beyond [`QUEUE_BYTES`] a step that writes
/// waits; its last words and its end are taken always.
#[derive(Clone)]
struct Outbox {
    messages: mpsc::UnboundedSender<FromAnnex>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    written: Notify,
}

impl Outbox {
    /// An outbox, and what brings its messages to the agent until all of it is dropped.
    fn new(mut to: OwnedWriteHalf) -> (Self, impl Future<Output = ()> + Send) {
        let (messages, mut queue) = mpsc::unbounded_channel::<FromAnnex>();
        let waiting = Arc::new(Waiting::default());
        let outbox = Self {
            messages,
            waiting: Arc::clone(&waiting),
        };
        let writing = async move {
            while let Some(message) = queue.recv().await {
                // Without the agent nobody reads; the end of its stream ends the rest.
                if write(&mut to, &message).await.is_err() {
                    break;
                }
                let size = message.output.len();
                waiting.bytes.fetch_sub(size, Ordering::Relaxed);
                waiting.written.notify_one();
            }
        };
        (outbox, writing)
    }

    fn send(&self, message: FromAnnex) {
        let size = message.output.len();
        self.waiting.bytes.fetch_add(size, Ordering::Relaxed);
        let _ = self.messages.send(message);
    }
}

impl OutputSink for Outbox {
    async fn room(&mut self) {
        while self.waiting.bytes.load(Ordering::Relaxed) >= QUEUE_BYTES {
            self.waiting.written.notified().await;
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.send(FromAnnex::output(bytes));
    }
}
