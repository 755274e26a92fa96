//! Brings offers and cancels to one agent, again and again until they are answered.
//! Must not keep the hub alive, nor let one delivery wait for another.

use std::collections::HashSet;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use prost::Message;
use runner_messages::{JobKey, OfferReply, method};
use tokio::sync::watch;
use tokio::time::Instant;
use valkyrie::endpoint::{CallError, CallOptions, Class, Code, Method, Session};
use valkyrie::identity::SpiffeId;

use crate::board::{Delivery, name};
use crate::hub::Hub;

type Answer = (JobKey, Delivery, Result<Bytes, CallError>);

/// Serves one session until it is over or replaced.
pub(crate) async fn run(
    hub: Weak<Hub>,
    agent: SpiffeId,
    session: Session,
    mut work: watch::Receiver<u64>,
) {
    let mut link = session.link();
    let mut under_way: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
    // One delivery at a time for each attempt: a cancel never overtakes its offer.
    let mut busy: HashSet<JobKey> = HashSet::new();
    let mut pause = Pause::default();
    loop {
        let Some(live) = hub.upgrade() else { return };
        if !pause.is_on() {
            let due = live.board.lock().due(&agent);
            for (key, delivery) in due {
                if busy.insert(key.clone()) {
                    let deadline = live.config.delivery_deadline;
                    under_way.push(Box::pin(deliver(session.clone(), key, delivery, deadline)));
                }
            }
        }
        drop(live);
        let wake = pause.until;
        tokio::select! {
            changed = work.changed() => if changed.is_err() { return },
            () = session.closed() => return,
            changed = link.changed() => {
                if changed.is_err() {
                    return;
                }
                link.borrow_and_update();
                let Some(hub) = hub.upgrade() else { return };
                hub.news_of(&agent);
            }
            Some((key, delivery, answer)) = under_way.next() => {
                busy.remove(&key);
                let Some(hub) = hub.upgrade() else { return };
                let settled = settle(&hub, &key, &delivery, answer);
                pause.note(settled, hub.config.delivery_backoff);
            }
            () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                pause.until = None;
            }
        }
    }
}

/// The wait after a failed delivery.
#[derive(Default)]
struct Pause {
    until: Option<Instant>,
    last: Option<Duration>,
}

impl Pause {
    fn is_on(&self) -> bool {
        self.until.is_some()
    }

    fn note(&mut self, settled: bool, (first, largest): (Duration, Duration)) {
        if settled {
            *self = Self::default();
            return;
        }
        let wait = self.last.map_or(first, |last| (last * 2).min(largest));
        self.last = Some(wait);
        self.until = Some(Instant::now() + wait);
    }
}

async fn deliver(session: Session, key: JobKey, delivery: Delivery, deadline: Duration) -> Answer {
    let (number, body, class) = match &delivery {
        Delivery::Offer(offer) => (method::JOB_OFFER, offer.encode_to_vec(), Class::Job),
        Delivery::Cancel(request) => (method::JOB_CANCEL, request.encode_to_vec(), Class::Control),
    };
    // Both may arrive twice: the agent answers a repeated key as it did the first time.
    let options = CallOptions::new(deadline).idempotent().class(class);
    let answer = session.call(Method(number), body.into(), options).await;
    (key, delivery, answer)
}

/// Notes an answer; false when the delivery must be tried again.
fn settle(hub: &Hub, key: &JobKey, delivery: &Delivery, answer: Result<Bytes, CallError>) -> bool {
    let news = match (delivery, answer) {
        (Delivery::Offer(_), Ok(body)) => {
            let Ok(reply) = OfferReply::decode(body) else {
                tracing::warn!(job = %name(key), "the answer to an offer cannot be read");
                return false;
            };
            let refusal = (!reply.accepted).then(|| clip(reply.reason));
            hub.board
                .lock()
                .offer_answered(key, refusal, (hub.config.clock)())
        }
        (Delivery::Cancel(request), Ok(_)) => hub.board.lock().cancel_answered(request, true),
        (_, Err(error)) if may_pass(&error) => {
            tracing::debug!(job = %name(key), %error, "a delivery failed and is tried again");
            return false;
        }
        (Delivery::Offer(_), Err(error)) => {
            let why = Some(clip(error.to_string()));
            hub.board
                .lock()
                .offer_answered(key, why, (hub.config.clock)())
        }
        (Delivery::Cancel(request), Err(error)) => {
            let known_job = error.code != Code::NotFound;
            hub.board.lock().cancel_answered(request, known_job)
        }
    };
    if news {
        hub.events.changed(key);
    }
    true
}

fn may_pass(error: &CallError) -> bool {
    error.retryable
        || matches!(
            error.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
        )
}

/// The agent's words, bounded.
fn clip(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(1024));
    text
}
