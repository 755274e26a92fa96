//! One request and its answer, passed between two connections of HTTP/2.
//! Must not end a side with another reason than the other side gave.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode, Version};

use super::super::OpenContext;
use super::super::proxy::ProxyInfo;
use super::head::{rewrite, strip};

/// How an exchange has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// By an answer, or by the service.
    Well,
    /// The caller has broken it off.
    CallerGone,
    /// The service's connection takes no more requests.
    ServiceGone,
}

/// Which side broke an exchange off.
enum Broken {
    /// The caller, or its connection: the service is told by this reason.
    Caller(Reason),
    /// The service's stream: the caller is told by this reason.
    Service(Reason),
    /// The service's connection.
    Gone {
        /// It has not seen the request.
        unseen: bool,
    },
}

/// Passes a request to the service and the answer back, to their ends.
pub(super) async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    requests: SendRequest<Bytes>,
    context: OpenContext,
) -> After {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        // Behind a tunnel the caller could ask in anybody's name.
        refuse(&mut respond, StatusCode::NOT_IMPLEMENTED);
        return After::Well;
    }
    let ready = tokio::select! {
        ready = requests.ready() => ready,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return After::CallerGone,
    };
    let Ok(mut requests) = ready else {
        respond.send_reset(Reason::REFUSED_STREAM);
        return After::ServiceGone;
    };
    rewrite(&mut parts, &ProxyInfo::new(&context, Instant::now()));
    if parts.uri.authority().is_none() {
        // Allowed where a `host` header stands for it; h2 wants it said in this way.
        parts.version = Version::HTTP_11;
    }
    let request = Request::from_parts(parts, ());
    let sent = requests.send_request(request, body.is_end_stream());
    let (response, mut to_service) = match sent {
        Ok(sent) => sent,
        Err(error) if ended(&error) => {
            respond.send_reset(Reason::REFUSED_STREAM);
            return After::ServiceGone;
        }
        Err(error) => {
            tracing::debug!(%error, "a request cannot be passed on");
            respond.send_reset(Reason::INTERNAL_ERROR);
            return After::Well;
        }
    };
    let mut answered = false;
    let passed = {
        let up = upward(body, &mut to_service);
        let down = downward(response, &mut respond, &mut answered);
        tokio::try_join!(up, down)
    };
    match passed {
        Ok(_) => After::Well,
        Err(Broken::Caller(reason)) => {
            to_service.send_reset(reason);
            After::CallerGone
        }
        Err(Broken::Service(reason)) => {
            respond.send_reset(reason);
            After::Well
        }
        Err(Broken::Gone { unseen }) => {
            match (unseen, answered) {
                (true, _) => respond.send_reset(Reason::REFUSED_STREAM),
                (false, false) => refuse(&mut respond, StatusCode::BAD_GATEWAY),
                (false, true) => respond.send_reset(Reason::INTERNAL_ERROR),
            }
            After::ServiceGone
        }
    }
}

/// Answers with a status alone; a caller that has gone needs none.
fn refuse(respond: &mut SendResponse<Bytes>, status: StatusCode) {
    let mut head = Response::new(());
    *head.status_mut() = status;
    let _ = respond.send_response(head, true);
}

/// The request's body. A service that wants no more of it has said all that it has to say, or says
/// why in its answer.
async fn upward(mut body: RecvStream, to: &mut SendStream<Bytes>) -> Result<(), Broken> {
    if body.is_end_stream() {
        return Ok(());
    }
    match pass(&mut body, to, true).await {
        Ok(()) | Err(Side::Receiver(_)) => Ok(()),
        Err(Side::Sender(error)) => Err(by_caller(&error)),
    }
}

/// The answer: interim ones, the head, the body, the trailers.
async fn downward(
    mut response: ResponseFuture,
    respond: &mut SendResponse<Bytes>,
    answered: &mut bool,
) -> Result<(), Broken> {
    let head = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            if respond.send_informational(interim).is_err() {
                break;
            }
        }
        if let Poll::Ready(head) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(head.map_err(|error| by_service(&error)));
        }
        respond
            .poll_reset(cx)
            .map(|reset| Err(Broken::Caller(reason(reset))))
    });
    let (parts, mut body) = head.await?.into_parts();
    let ends = body.is_end_stream();
    let sent = respond.send_response(Response::from_parts(parts, ()), ends);
    *answered = true;
    let mut to_caller = sent.map_err(|error| by_caller(&error))?;
    if ends {
        return Ok(());
    }
    match pass(&mut body, &mut to_caller, false).await {
        Ok(()) => Ok(()),
        Err(Side::Receiver(reason)) => Err(Broken::Caller(reason)),
        Err(Side::Sender(error)) => Err(by_service(&error)),
    }
}

/// Which side of a body broke.
enum Side {
    Sender(h2::Error),
    Receiver(Reason),
}

/// Passes a body to its end; a piece's place is given back when the receiver has taken it.
async fn pass(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    to_service: bool,
) -> Result<(), Side> {
    loop {
        let next = tokio::select! {
            next = from.data() => next,
            reset = poll_fn(|cx| to.poll_reset(cx)) => return Err(Side::Receiver(reason(reset))),
        };
        let Some(piece) = next else { break };
        let mut piece = piece.map_err(Side::Sender)?;
        let length = piece.len();
        while !piece.is_empty() {
            to.reserve_capacity(piece.len());
            let room = poll_fn(|cx| to.poll_capacity(cx)).await;
            let room = match room {
                Some(Ok(room)) => room.min(piece.len()),
                Some(Err(error)) => return Err(Side::Receiver(said(&error))),
                None => return Err(Side::Receiver(Reason::CANCEL)),
            };
            let sent = to.send_data(piece.split_to(room), false);
            sent.map_err(|error| Side::Receiver(said(&error)))?;
        }
        // The connection may have ended meanwhile: then nobody counts.
        let _ = from.flow_control().release_capacity(length);
    }
    let trailers = from.trailers().await.map_err(Side::Sender)?;
    let sent = match trailers {
        Some(mut trailers) => {
            if to_service {
                strip(&mut trailers);
            }
            to.send_trailers(trailers)
        }
        None => to.send_data(Bytes::new(), true),
    };
    sent.map_err(|error| Side::Receiver(said(&error)))
}

/// The reason that an error names; `CANCEL` for a side that went without a word.
fn said(error: &h2::Error) -> Reason {
    error.reason().unwrap_or(Reason::CANCEL)
}

fn reason(reset: Result<Reason, h2::Error>) -> Reason {
    reset.unwrap_or_else(|error| said(&error))
}

fn by_caller(error: &h2::Error) -> Broken {
    Broken::Caller(said(error))
}

fn by_service(error: &h2::Error) -> Broken {
    if error.is_reset() {
        return Broken::Service(said(error));
    }
    // What a service leaves out when it goes is what it says it has not seen.
    let unseen = error.is_go_away() && error.is_remote();
    Broken::Gone { unseen }
}

/// The connection takes no more requests.
fn ended(error: &h2::Error) -> bool {
    error.is_io() || error.is_go_away()
}
