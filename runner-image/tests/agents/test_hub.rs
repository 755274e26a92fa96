//! A hub for tests: offers one job, keeps what the agent says, and breaks when told.
//! Must accept log bytes only at the exact end of what it has, like the real one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use runner_messages::{
    CancelReason, CancelRequest, Empty, JobKey, JobResult, LogAck, LogMessage, LogMessageKind,
    LogOpen, Offer, OfferReply, Progress, StepPhase, method,
};
use tokio::sync::watch;
use valkyrie::endpoint::{
    CallContext, CallError, CallOptions, Code, Handler, Method, Rx, Session, Tx,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the hub knows and how it misbehaves.
#[derive(Default)]
pub(crate) struct State {
    /// Bytes of each step's log.
    pub(crate) logs: BTreeMap<u32, Vec<u8>>,
    /// Steps whose log was closed with the right length and digest.
    pub(crate) closed: Vec<u32>,
    /// Anything that the protocol forbids.
    pub(crate) violations: Vec<String>,
    /// All progress, in order.
    pub(crate) progress: Vec<Progress>,
    /// All results, in order of arrival.
    pub(crate) results: Vec<JobResult>,
    /// Answers to offers, in order.
    pub(crate) replies: Vec<OfferReply>,
    /// The session of the agent.
    pub(crate) session: Option<Session>,
    /// Log streams break after this many bytes each; none left means never.
    pub(crate) cuts: VecDeque<usize>,
    /// Errors for the next results.
    pub(crate) refuse_results: VecDeque<CallError>,
    /// The error for all progress.
    pub(crate) refuse_progress: Option<CallError>,
    /// The error for all log streams.
    pub(crate) refuse_logs: Option<CallError>,
}

/// A hub with one job.
pub(crate) struct TestHub {
    offer: Offer,
    pub(crate) state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl TestHub {
    pub(crate) fn new(offer: Offer) -> Arc<Self> {
        Arc::new(Self {
            offer,
            state: Mutex::new(State::default()),
            changed: watch::Sender::new(0),
        })
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.state.lock());
        self.changed.send_modify(|count| *count += 1);
        value
    }

    /// Waits until the hub has seen something.
    pub(crate) async fn until(&self, what: &str, seen: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = changed.wait_for(|_| seen(&self.state.lock()));
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let state = self.state.lock();
            panic!(
                "{what}: not within {PATIENCE:?}; progress: {:?}",
                state.progress.last()
            );
        }
    }

    /// Waits until a step's log holds this.
    pub(crate) async fn until_said(&self, step: u32, text: &str) {
        self.until(text, |state| state.log(step).contains(text))
            .await;
    }

    pub(crate) async fn offer(&self, offer: &Offer) -> OfferReply {
        let session = self.session();
        let options = CallOptions::new(PATIENCE).idempotent();
        let body = offer.encode_to_vec().into();
        let reply = session
            .call(Method(method::JOB_OFFER), body, options)
            .await
            .unwrap();
        let reply = OfferReply::decode(reply).unwrap();
        self.change(|state| state.replies.push(reply.clone()));
        reply
    }

    pub(crate) async fn cancel(
        &self,
        job: &JobKey,
        reason: CancelReason,
        grace: Duration,
    ) -> Result<(), CallError> {
        let session = self.session();
        let request = CancelRequest {
            job: Some(job.clone()),
            reason: reason.into(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap(),
        };
        let options = CallOptions::new(PATIENCE).idempotent();
        let body = request.encode_to_vec().into();
        session
            .call(Method(method::JOB_CANCEL), body, options)
            .await
            .map(drop)
    }

    fn session(&self) -> Session {
        self.state
            .lock()
            .session
            .clone()
            .expect("the agent is connected")
    }

    async fn log(&self, open: LogOpen, mut tx: Tx, mut rx: Rx) -> Result<(), CallError> {
        if let Some(error) = self.state.lock().refuse_logs.clone() {
            return Err(error);
        }
        let step = open.step_index;
        let start = self.change(|state| state.logs.entry(step).or_default().len());
        acknowledge(&mut tx, start, false).await?;
        let cut = self
            .change(|state| state.cuts.pop_front())
            .unwrap_or(usize::MAX);
        let mut taken = 0;
        while let Some(message) = rx.recv().await? {
            match LogMessage::decode(message).unwrap().kind.unwrap() {
                LogMessageKind::Chunk(chunk) => {
                    taken += chunk.bytes.len();
                    if taken > cut {
                        return Err(CallError::unavailable("the stream was cut"));
                    }
                    let end = self.change(|state| {
                        let log = state.logs.get_mut(&step).unwrap();
                        let end = log.len() as u64;
                        if chunk.offset != end || chunk.crc32c != crc32c::crc32c(&chunk.bytes) {
                            let wrong = format!("step {step}: {} at {end}", chunk.offset);
                            state.violations.push(wrong);
                        } else {
                            log.extend_from_slice(&chunk.bytes);
                        }
                        state.logs[&step].len()
                    });
                    acknowledge(&mut tx, end, false).await?;
                }
                LogMessageKind::Close(close) => {
                    let end = self.change(|state| {
                        let log = &state.logs[&step];
                        let digest = *blake3::hash(log).as_bytes();
                        let end = log.len();
                        if close.end == end as u64 && close.blake3 == digest {
                            state.closed.push(step);
                        } else {
                            state.violations.push(format!("step {step}: a wrong end"));
                        }
                        end
                    });
                    acknowledge(&mut tx, end, true).await?;
                    return tx.finish().await;
                }
            }
        }
        Ok(())
    }
}

impl State {
    /// A step's log as text.
    pub(crate) fn log(&self, step: u32) -> String {
        let bytes = self.logs.get(&step).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The latest state of a step that was reported.
    pub(crate) fn phase(&self, step: usize) -> Option<StepPhase> {
        Some(self.progress.last()?.steps.get(step)?.state())
    }
}

async fn acknowledge(tx: &mut Tx, end: usize, closed: bool) -> Result<(), CallError> {
    let ack = LogAck {
        durable_end: end as u64,
        closed,
    };
    tx.send(ack.encode_to_vec().into()).await
}

/// The handler of a server for this hub.
pub(crate) struct HubHandler(pub Arc<TestHub>);

#[async_trait]
impl Handler for HubHandler {
    async fn up(&self, session: Session) -> Result<(), CallError> {
        let hub = Arc::clone(&self.0);
        hub.change(|state| state.session = Some(session));
        tokio::spawn(async move { hub.offer(&hub.offer).await });
        Ok(())
    }

    async fn call(
        &self,
        _context: CallContext,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        match method.0 {
            method::JOB_PROGRESS => self.0.change(|state| {
                state.progress.push(Progress::decode(body).unwrap());
                state.refuse_progress.clone().map_or(Ok(()), Err)
            })?,
            method::JOB_RESULT => self.0.change(|state| {
                state.results.push(JobResult::decode(body).unwrap());
                state.refuse_results.pop_front().map_or(Ok(()), Err)
            })?,
            other => return Err(CallError::new(Code::Unimplemented, other.to_string())),
        }
        Ok(Empty {}.encode_to_vec().into())
    }

    async fn stream(
        &self,
        _context: CallContext,
        method: Method,
        head: Bytes,
        tx: Tx,
        rx: Rx,
    ) -> Result<(), CallError> {
        assert_eq!(method.0, method::LOG_APPEND);
        self.0.log(LogOpen::decode(head).unwrap(), tx, rx).await
    }
}
