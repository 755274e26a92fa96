//! Takes what the hub tells the agent: one job, and to stop it.
//! Must not run anything, and must answer at once: the hub repeats what is not answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use runner_messages::{
    CancelReason, CancelRequest, Empty, JobKey, MAX_STEPS, Offer, OfferReply, method,
};
use tokio::sync::{Notify, oneshot, watch};
use valkyrie::endpoint::{CallContext, CallError, Code, Handler, Method, Rx, Tx};

use crate::stop::{StopReason, StopRequest};

/// Jobs cancelled before they were offered; the oldest is forgotten first.
const CANCELLED: usize = 64;

/// What the hub has said so far.
pub(crate) struct Desk {
    state: Mutex<State>,
    stop: watch::Sender<Option<StopRequest>>,
    /// The offer came again, so the hub has forgotten what it was told.
    pub(crate) again: Notify,
}

struct State {
    job: Option<JobKey>,
    waiting: Option<oneshot::Sender<(JobKey, Offer)>>,
    cancelled: VecDeque<JobKey>,
}

impl Desk {
    /// A desk, and where the one offer that it accepts arrives.
    pub(crate) fn new() -> (Arc<Self>, oneshot::Receiver<(JobKey, Offer)>) {
        let (waiting, offered) = oneshot::channel();
        let desk = Self {
            state: Mutex::new(State {
                job: None,
                waiting: Some(waiting),
                cancelled: VecDeque::new(),
            }),
            stop: watch::Sender::new(None),
            again: Notify::new(),
        };
        (Arc::new(desk), offered)
    }

    /// Asks the job to stop; the first request counts.
    pub(crate) fn stop(&self, request: StopRequest) {
        self.stop.send_if_modified(|present| {
            let first = present.is_none();
            present.get_or_insert(request);
            first
        });
    }

    /// The request to stop, now and later.
    pub(crate) fn stop_requests(&self) -> watch::Receiver<Option<StopRequest>> {
        self.stop.subscribe()
    }

    fn offer(&self, offer: Offer) -> OfferReply {
        let Some(key) = offer.job.clone() else {
            return refused("the offer names no job");
        };
        if !(1..=MAX_STEPS).contains(&offer.steps.len()) {
            return refused(&format!("a job must have 1 to {MAX_STEPS} steps"));
        }
        let mut state = self.state.lock();
        if state.job.as_ref() == Some(&key) {
            self.again.notify_one();
            return accepted();
        }
        if state.cancelled.contains(&key) {
            return refused("the job was cancelled before it was offered");
        }
        let taken = state
            .waiting
            .take()
            .map(|waiting| waiting.send((key.clone(), offer)).is_ok());
        match taken {
            Some(true) => {
                state.job = Some(key);
                accepted()
            }
            Some(false) => refused("the agent is stopping"),
            None => refused("the agent has another job or attempt"),
        }
    }

    fn cancel(&self, request: &CancelRequest) -> Result<Empty, CallError> {
        let Some(key) = &request.job else {
            return Err(CallError::new(
                Code::InvalidArgument,
                "the request names no job",
            ));
        };
        let mut state = self.state.lock();
        if state.job.as_ref() != Some(key) {
            if !state.cancelled.contains(key) {
                state.cancelled.push_back(key.clone());
            }
            if state.cancelled.len() > CANCELLED {
                state.cancelled.pop_front();
            }
            return Err(CallError::new(
                Code::NotFound,
                "the agent does not run this job",
            ));
        }
        drop(state);
        self.stop(StopRequest {
            reason: match request.reason() {
                CancelReason::Cancelled => StopReason::Cancelled,
                CancelReason::RunTimeout => StopReason::RunTimeout,
            },
            grace: Duration::from_millis(request.grace_ms),
        });
        Ok(Empty {})
    }
}

/// Answers the hub's calls at the desk.
pub(crate) struct DeskHandler(pub(crate) Arc<Desk>);

#[async_trait]
impl Handler for DeskHandler {
    async fn call(
        &self,
        _context: CallContext,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        match method.0 {
            method::JOB_OFFER => Ok(self.0.offer(decode(body)?).encode_to_vec().into()),
            method::JOB_CANCEL => Ok(self.0.cancel(&decode(body)?)?.encode_to_vec().into()),
            number => Err(unknown(number)),
        }
    }

    async fn stream(
        &self,
        _context: CallContext,
        method: Method,
        _head: Bytes,
        _tx: Tx,
        _rx: Rx,
    ) -> Result<(), CallError> {
        Err(unknown(method.0))
    }
}

fn accepted() -> OfferReply {
    OfferReply {
        accepted: true,
        reason: String::new(),
    }
}

fn refused(reason: &str) -> OfferReply {
    OfferReply {
        accepted: false,
        reason: reason.to_owned(),
    }
}

fn decode<M: Message + Default>(body: Bytes) -> Result<M, CallError> {
    M::decode(body).map_err(|error| CallError::new(Code::InvalidArgument, error.to_string()))
}

fn unknown(number: u32) -> CallError {
    CallError::new(
        Code::Unimplemented,
        format!("an agent has no method {number}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_messages::StepSpec;

    fn offer(fence: u64) -> Offer {
        Offer {
            job: Some(JobKey {
                namespace: "team".to_owned(),
                run: "build-1".to_owned(),
                run_uid: "uid-1".to_owned(),
                job: "compile".to_owned(),
                attempt: 1,
                fence,
            }),
            steps: vec![StepSpec {
                name: "only".to_owned(),
                ..StepSpec::default()
            }],
            ..Offer::default()
        }
    }

    fn cancel(fence: u64, reason: CancelReason) -> CancelRequest {
        CancelRequest {
            job: offer(fence).job,
            reason: reason.into(),
            grace_ms: 1500,
        }
    }

    #[test]
    fn a_repeated_offer_is_accepted_again_and_another_fence_is_refused() {
        let (desk, mut offered) = Desk::new();
        assert!(desk.offer(offer(7)).accepted);
        assert!(desk.offer(offer(7)).accepted);
        let other = desk.offer(offer(8));
        assert!(!other.accepted && other.reason.contains("another job or attempt"));
        assert_eq!(offered.try_recv().unwrap().0.fence, 7);
        assert!(
            desk.offer(offer(7)).accepted,
            "also while and after it runs"
        );
    }

    #[test]
    fn an_offer_out_of_bounds_is_refused_with_its_reason() {
        let (desk, _offered) = Desk::new();
        let mut bad = offer(7);
        bad.steps.clear();
        assert_eq!(
            desk.offer(bad).reason,
            format!("a job must have 1 to {MAX_STEPS} steps")
        );
    }

    #[test]
    fn only_the_running_job_is_stopped_and_the_first_request_counts() {
        let (desk, _offered) = Desk::new();
        desk.offer(offer(7));
        let refused = desk
            .cancel(&cancel(6, CancelReason::Cancelled))
            .unwrap_err();
        assert_eq!(refused.code, Code::NotFound);
        assert_eq!(*desk.stop_requests().borrow(), None);
        desk.cancel(&cancel(7, CancelReason::RunTimeout)).unwrap();
        desk.cancel(&cancel(7, CancelReason::Cancelled)).unwrap();
        let request = desk.stop_requests().borrow().unwrap();
        assert_eq!(request.reason, StopReason::RunTimeout);
        assert_eq!(request.grace, Duration::from_millis(1500));
    }

    #[test]
    fn a_job_cancelled_before_its_offer_is_refused() {
        let (desk, _offered) = Desk::new();
        assert!(desk.cancel(&cancel(7, CancelReason::Cancelled)).is_err());
        assert!(!desk.offer(offer(7)).accepted);
        assert!(desk.offer(offer(8)).accepted);
    }

    #[test]
    fn an_offer_to_an_agent_that_is_leaving_is_refused() {
        let (desk, offered) = Desk::new();
        drop(offered);
        assert!(!desk.offer(offer(7)).accepted);
        assert!(!desk.offer(offer(7)).accepted);
    }
}
