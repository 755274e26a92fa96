//! What agents may call, and who may.
//! Must not hold a lock while it waits, nor let a log stream delay a call.

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use runner_messages::{Empty, JobResult, Progress, method};
use tokio::sync::watch;
use valkyrie::bootstrap::{IssueReply, IssueRequest, RenewRequest};
use valkyrie::endpoint::{
    CallContext, CallError, Code, Handler, Method, Peer, Rx, Session, SessionId, Tx,
};
use valkyrie::identity::SpiffeId;

use crate::board::Found;
use crate::hub::Hub;
use crate::issuer::IssuedIdentity;
use crate::{bounds, log};

#[async_trait]
impl Handler for Hub {
    async fn up(&self, session: Session) -> Result<(), CallError> {
        if let Peer::Spiffe(agent) = session.peer().clone() {
            self.connected(&agent, session);
        }
        Ok(())
    }

    async fn call(
        &self,
        context: CallContext,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        match (&context.peer, method.0) {
            (Peer::Anonymous, method::IDENTITY_ISSUE) => self.issue(decode(body)?).await,
            (Peer::Anonymous, _) => Err(anonymous()),
            (Peer::Spiffe(peer), method::IDENTITY_RENEW) => self.renew(peer, decode(body)?).await,
            (Peer::Spiffe(peer), method::JOB_PROGRESS) => self.progress(peer, decode(body)?),
            (Peer::Spiffe(peer), method::JOB_RESULT) => self.result(peer, decode(body)?).await,
            (Peer::Spiffe(_), method::IDENTITY_ISSUE) => Err(CallError::new(
                Code::PermissionDenied,
                "a peer with a certificate renews it",
            )),
            (Peer::Spiffe(_), number) => Err(unknown(number)),
        }
    }

    async fn stream(
        &self,
        context: CallContext,
        method: Method,
        head: Bytes,
        tx: Tx,
        rx: Rx,
    ) -> Result<(), CallError> {
        match (&context.peer, method.0) {
            (Peer::Anonymous, _) => Err(anonymous()),
            (Peer::Spiffe(peer), method::LOG_APPEND) => {
                log::serve(self, peer, decode(head)?, tx, rx).await
            }
            (Peer::Spiffe(_), number) => Err(unknown(number)),
        }
    }

    async fn down(&self, session: SessionId) {
        self.gone(session);
    }
}

impl Hub {
    async fn issue(&self, request: IssueRequest) -> Result<Bytes, CallError> {
        let Ok(_permit) = self.issues.try_acquire() else {
            let busy = CallError::new(Code::ResourceExhausted, "too many agents at once");
            return Err(busy.retry_after(self.config.retry_after));
        };
        self.issuer
            .issue(&request.token, &request.csr_der)
            .await
            .map(reply)
    }

    async fn renew(&self, peer: &SpiffeId, request: RenewRequest) -> Result<Bytes, CallError> {
        self.issuer.renew(peer, &request.csr_der).await.map(reply)
    }

    fn progress(&self, peer: &SpiffeId, progress: Progress) -> Result<Bytes, CallError> {
        let key = bounds::key(progress.job.as_ref())?;
        if let Found::Expected(job) = self.board.lock().find(peer, key)? {
            bounds::steps(&progress.steps, job.offer.steps.len())?;
            if job.result.is_none() {
                job.report(progress.steps, (self.config.clock)());
            }
        }
        self.events.changed(key);
        Ok(empty())
    }

    /// Answers when the operator has made the result durable; until then the agent keeps it.
    async fn result(&self, peer: &SpiffeId, result: JobResult) -> Result<Bytes, CallError> {
        let key = bounds::key(result.job.as_ref())?.clone();
        let Some(mut durable) = self.record(peer, result)? else {
            return Ok(empty());
        };
        self.events.changed(&key);
        match durable.wait_for(|durable| *durable).await {
            Ok(_) => Ok(empty()),
            Err(_) => Err(CallError::new(
                Code::FailedPrecondition,
                "this attempt was replaced, or its run deleted",
            )),
        }
    }

    /// Takes a result in; `None` when it is durable already.
    fn record(
        &self,
        peer: &SpiffeId,
        result: JobResult,
    ) -> Result<Option<watch::Receiver<bool>>, CallError> {
        let key = bounds::key(result.job.as_ref())?.clone();
        let mut board = self.board.lock();
        let Found::Expected(job) = board.find(peer, &key)? else {
            return Ok(None);
        };
        bounds::result(&result, job.offer.steps.len())?;
        job.end(result, (self.config.clock)());
        Ok(Some(job.durable.subscribe()))
    }
}

fn decode<M: Message + Default>(body: Bytes) -> Result<M, CallError> {
    M::decode(body).map_err(|_| bounds::refuse("the message cannot be read"))
}

fn reply(identity: IssuedIdentity) -> Bytes {
    let IssuedIdentity { chain, bundle_pem } = identity;
    IssueReply {
        chain_der: chain,
        bundle_pem,
    }
    .encode_to_vec()
    .into()
}

fn empty() -> Bytes {
    Empty {}.encode_to_vec().into()
}

fn anonymous() -> CallError {
    CallError::new(
        Code::Unauthenticated,
        "without a certificate one may only ask for one",
    )
}

fn unknown(number: u32) -> CallError {
    CallError::new(
        Code::Unimplemented,
        format!("the hub has no method {number}"),
    )
}
