//! HTTP/2 through its adapter, frame by frame where it matters: what passes, and what breaks.
//! Must not ask a service but through the adapter.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use valkyrie::adapter::{Adapters, Duplex};

use crate::conformance::context;
use crate::in_time;
use crate::services::tcp;

/// A service by this function, called for each request on a task of its own.
async fn service<F>(serve: impl Fn(Asked) -> F + Clone + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    tcp(move |stream| answer(stream, serve.clone())).await
}

async fn answer<F>(stream: TcpStream, serve: impl Fn(Asked) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    let (leave, mut leaves) = mpsc::channel(1);
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let leave = leave.clone();
                    tokio::spawn(serve(Asked { request, respond, leave }));
                }
                _ => return,
            },
            Some(gracefully) = leaves.recv() => match gracefully {
                true => connection.graceful_shutdown(),
                false => return,
            }
        }
    }
}

/// A request at the service.
struct Asked {
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    /// Lets the connection go: gracefully or at once.
    leave: mpsc::Sender<bool>,
}

/// A connection to the service at this address through the adapter.
async fn through(address: SocketAddr) -> SendRequest<Bytes> {
    let (adapters, target) = (Adapters::standard(false), format!("http2:{address}"));
    let context = context();
    let opened = adapters.open(&target, &context);
    let stream = in_time("a connection", opened).await.expect("reached");
    on(stream).await
}

async fn on(stream: Box<dyn Duplex>) -> SendRequest<Bytes> {
    let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    requests
}

/// Sends the head of a request, whose body is still open.
async fn begin(
    requests: &SendRequest<Bytes>,
    path: &str,
) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    let mut requests = in_time("a place", requests.clone().ready()).await?;
    requests.send_request(head(Method::POST, path), false)
}

/// The head of a request, with a claim that no service may hear.
fn head(method: Method, path: &str) -> Request<()> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://oak{path}"));
    let request = request.header("x-valkyrie-peer", "admin");
    request.body(()).expect("a request")
}

/// Sends all as the windows allow.
async fn send(to: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        to.reserve_capacity(bytes.len());
        let room = poll_fn(|cx| to.poll_capacity(cx)).await;
        let room = room.expect("open").expect("open").min(bytes.len());
        to.send_data(bytes.split_to(room), false).expect("sent");
    }
    to.send_data(Bytes::new(), true).expect("ended");
}

/// A body to its end.
async fn body(mut from: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = from.data().await {
        let piece = piece?;
        all.extend_from_slice(&piece);
        from.flow_control().release_capacity(piece.len())?;
    }
    Ok((all, from.trailers().await?))
}

/// One request over a connection that an adapter has opened; the body of the answer.
pub(crate) async fn request(stream: Box<dyn Duplex>, path: &str, sent: &[u8]) -> Vec<u8> {
    let requests = on(stream).await;
    let mut requests = requests.ready().await.expect("a connection");
    let method = if path == "/who" {
        Method::GET
    } else {
        Method::POST
    };
    let asked = requests.send_request(head(method, path), sent.is_empty());
    let (response, mut to) = asked.expect("sent");
    let sending = async {
        if !sent.is_empty() {
            send(&mut to, Bytes::copy_from_slice(sent)).await;
        }
    };
    let receiving = async { body(response.await.expect("an answer").into_body()).await };
    tokio::join!(sending, receiving).1.expect("a body").0
}

fn ok() -> Response<()> {
    Response::new(())
}

fn was_reset(error: &h2::Error, reason: Reason) -> bool {
    error.is_reset() && error.reason() == Some(reason)
}

#[tokio::test]
async fn trailers_and_interim_answers_pass_and_trailers_make_no_claims() {
    let address = service(|mut asked: Asked| async move {
        let mut hint = ok();
        *hint.status_mut() = StatusCode::EARLY_HINTS;
        asked.respond.send_informational(hint).expect("sent");
        let (heard, trailers) = body(asked.request.into_body()).await.expect("a body");
        assert_eq!(heard, b"acorn");
        let mut trailers = trailers.expect("trailers");
        trailers.insert("seen", trailers.len().into());
        let mut to = asked.respond.send_response(ok(), false).expect("sent");
        to.send_trailers(trailers).expect("sent");
    })
    .await;
    let requests = through(address).await;
    let (mut response, mut to) = begin(&requests, "/").await.expect("sent");
    let hint = poll_fn(|cx| response.poll_informational(cx));
    let hint = in_time("a hint", hint).await.expect("one").expect("well");
    assert_eq!(hint.status(), StatusCode::EARLY_HINTS);
    to.send_data("acorn".into(), false).expect("sent");
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "7".parse().expect("a value"));
    trailers.insert("x-valkyrie-peer", "admin".parse().expect("a value"));
    to.send_trailers(trailers).expect("sent");
    let answer = in_time("an answer", response).await.expect("well");
    let (_, trailers) = in_time("the end", body(answer.into_body()))
        .await
        .expect("well");
    let trailers = trailers.expect("trailers");
    assert_eq!(
        (&trailers["checksum"], &trailers["seen"]),
        (&7.into(), &1.into())
    );
    assert_eq!(trailers.len(), 2);
}

#[tokio::test]
async fn each_side_hears_why_the_other_broke_a_request_off() {
    let (heard, mut hears) = mpsc::channel(8);
    let address = service(move |mut asked: Asked| {
        let heard = heard.clone();
        async move {
            match asked.request.uri().path() {
                "/refuse" => asked.respond.send_reset(Reason::REFUSED_STREAM),
                "/break" => {
                    let mut to = asked.respond.send_response(ok(), false).expect("sent");
                    to.send_data("half".into(), false).expect("sent");
                    // Not before the caller has the half of it: a reset overtakes what waits.
                    let more = asked.request.into_body().data().await;
                    more.expect("a word").expect("well");
                    to.send_reset(Reason::ENHANCE_YOUR_CALM);
                }
                "/wait" => {
                    heard.send(None).await.expect("the test listens");
                    let reason = poll_fn(|cx| asked.respond.poll_reset(cx)).await;
                    heard.send(reason.ok()).await.expect("the test listens");
                }
                _ => {
                    let mut to = asked.respond.send_response(ok(), false).expect("sent");
                    let reason = poll_fn(|cx| to.poll_reset(cx)).await;
                    heard.send(reason.ok()).await.expect("the test listens");
                }
            }
        }
    })
    .await;
    let requests = through(address).await;

    let (response, _to) = begin(&requests, "/refuse").await.expect("sent");
    let refused = in_time("the reset", response).await.expect_err("refused");
    assert!(was_reset(&refused, Reason::REFUSED_STREAM), "{refused}");

    let (response, mut to) = begin(&requests, "/break").await.expect("sent");
    let mut answer = in_time("the head", response).await.expect("a head");
    let half = in_time("the half", answer.body_mut().data()).await;
    assert_eq!(half.expect("some").expect("well"), "half");
    to.send_data("go on".into(), false).expect("sent");
    let broken = in_time("the reset", body(answer.into_body()))
        .await
        .expect_err("broken");
    assert!(was_reset(&broken, Reason::ENHANCE_YOUR_CALM), "{broken}");

    let (_response, mut to) = begin(&requests, "/wait").await.expect("sent");
    assert_eq!(in_time("the request", hears.recv()).await, Some(None));
    to.send_reset(Reason::INADEQUATE_SECURITY);
    let reason = in_time("the reset", hears.recv()).await;
    assert_eq!(
        reason,
        Some(Some(Reason::INADEQUATE_SECURITY)),
        "before an answer"
    );

    let (response, mut to) = begin(&requests, "/stream").await.expect("sent");
    let _answer = in_time("the head", response).await.expect("a head");
    to.send_reset(Reason::CANCEL);
    let reason = in_time("the reset", hears.recv()).await;
    assert_eq!(
        reason,
        Some(Some(Reason::CANCEL)),
        "in the middle of an answer"
    );
}

#[tokio::test]
async fn a_service_may_answer_before_it_has_read_the_request() {
    let address = service(|mut asked: Asked| async move {
        let mut head = ok();
        *head.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        asked.respond.send_response(head, true).expect("sent");
        // Its body is dropped unread: the rest is not wanted, by NO_ERROR.
    })
    .await;
    let requests = through(address).await;
    let (response, _to) = begin(&requests, "/").await.expect("sent");
    let answer = in_time("an answer", response).await.expect("well");
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_service_that_does_not_read_holds_its_caller_back_and_no_other_request() {
    let address = service(|mut asked: Asked| async move {
        if asked.request.uri().path() == "/stall" {
            return std::future::pending().await;
        }
        asked.respond.send_response(ok(), true).expect("sent");
    })
    .await;
    let requests = through(address).await;
    let (_response, mut to) = begin(&requests, "/stall").await.expect("sent");
    let (mut sent, piece) = (0, Bytes::from(vec![7; 64 * 1024]));
    loop {
        to.reserve_capacity(piece.len());
        let room = poll_fn(|cx| to.poll_capacity(cx));
        // Only a service that reads gives more room, so this waits for nothing once it is full.
        let Ok(room) = tokio::time::timeout(Duration::from_millis(300), room).await else {
            break;
        };
        let room = room.expect("open").expect("open").min(piece.len());
        to.send_data(piece.slice(..room), false).expect("sent");
        sent += room;
        assert!(sent <= 4 << 20, "the adapter holds {sent} bytes");
    }
    let (response, _to) = begin(&requests, "/").await.expect("sent");
    let answer = in_time("another answer", response).await.expect("well");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_tunnel_is_refused() {
    let address = service(|_: Asked| async { unreachable!("nothing may arrive") }).await;
    let requests = through(address).await;
    let mut requests = requests.ready().await.expect("a connection");
    let connect = Request::builder().method(Method::CONNECT).uri("elm:22");
    let (response, _to) = requests
        .send_request(connect.body(()).expect("one"), false)
        .expect("sent");
    let answer = in_time("an answer", response).await.expect("well");
    assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn a_service_that_leaves_ends_what_it_has_begun_and_takes_no_more() {
    let (arrived, mut arrives) = mpsc::channel(8);
    let address = service(move |mut asked: Asked| {
        let arrived = arrived.clone();
        async move {
            asked.leave.send(true).await.expect("there");
            arrived.send(()).await.expect("the test listens");
            // Its caller ends it, when it has been told that the service leaves.
            let (heard, _) = body(asked.request.into_body()).await.expect("a body");
            let mut to = asked.respond.send_response(ok(), false).expect("sent");
            to.send_data(heard.into(), true).expect("sent");
        }
    })
    .await;
    let requests = through(address).await;
    let (response, mut to) = begin(&requests, "/").await.expect("sent");
    in_time("the request", arrives.recv()).await.expect("one");
    // Sooner or later it is refused, in a way that lets a client ask elsewhere.
    let refused = async {
        loop {
            let asked = match begin(&requests, "/more").await {
                Ok((response, _to)) => response.await.map(|_| ()),
                Err(error) => Err(error),
            };
            if let Err(error) = asked {
                return error;
            }
        }
    };
    let refused = in_time("the refusal", refused).await;
    let again = refused.is_go_away() || was_reset(&refused, Reason::REFUSED_STREAM);
    assert!(again, "{refused}");
    to.send_data("acorn".into(), true).expect("sent");
    let answer = in_time("an answer", response).await.expect("well");
    let (heard, _) = in_time("the body", body(answer.into_body()))
        .await
        .expect("well");
    assert_eq!(heard, b"acorn");
}

#[tokio::test]
async fn a_service_that_breaks_down_is_a_bad_gateway_to_who_waits() {
    let address = service(|asked: Asked| async move {
        // A dropped request would be reset: it is held as a whole.
        let asked = { asked };
        asked.leave.send(false).await.expect("there");
        std::future::pending().await
    })
    .await;
    let requests = through(address).await;
    let (response, _to) = begin(&requests, "/").await.expect("sent");
    let answer = in_time("an answer", response).await.expect("well");
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_storm_of_broken_requests_ends_its_own_connection_only() {
    let address = service(|mut asked: Asked| async move {
        if asked.request.uri().path() == "/" {
            asked.respond.send_response(ok(), true).expect("sent");
        }
    })
    .await;
    let (honest, attacker) = (through(address).await, through(address).await);
    let storm = async {
        loop {
            match begin(&attacker, "/never").await {
                Ok((_response, mut to)) => {
                    // Its head leaves first; what was never sent needs no reset.
                    tokio::task::yield_now().await;
                    to.send_reset(Reason::CANCEL);
                }
                Err(error) => return error,
            }
        }
    };
    let ended = in_time("the end of the storm", storm).await;
    assert_eq!(ended.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{ended}");
    let (response, _to) = begin(&honest, "/").await.expect("sent");
    let answer = in_time("an answer", response).await.expect("well");
    assert_eq!(answer.status(), StatusCode::OK);
}
