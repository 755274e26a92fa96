//! Services behind a gateway, reached through sessions over QUIC.
//! Must not reach a service around the session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use valkyrie::adapter::{Adapters, Gateway, forward, open};
use valkyrie::endpoint::{
    CallContext, CallError, Class, Code, Dialer, Handler, Method, OpenOptions, Peer, Rx, Server,
    Session, TraceContext, Tx,
};
use valkyrie::identity::{Authority, IdentityStore, TrustBundle, TrustDomain};

use crate::in_time;
use crate::services::{GREETING, http, read_all, tcp_echo};

pub(crate) const FORWARD: Method = Method(40);
const HOUR: Duration = Duration::from_secs(3600);

struct Service(Gateway);

#[async_trait]
impl Handler for Service {
    async fn stream(
        &self,
        context: CallContext,
        _: Method,
        head: Bytes,
        tx: Tx,
        rx: Rx,
    ) -> Result<(), CallError> {
        self.0.serve(&context, head, tx, rx).await
    }
}

pub(crate) struct World {
    _server: Server,
    pub(crate) session: Session,
}

/// A gateway on QUIC, and a session of `ns/team/agent/oak` with it.
pub(crate) async fn world(gateway: Gateway) -> World {
    let domain = TrustDomain::parse("test.example").expect("a name");
    let now = SystemTime::now();
    let authority = Authority::generate(domain.clone(), now, 24 * HOUR).expect("an authority");
    let identity = |path: &str| {
        let id = domain.member(path).expect("an id");
        let credentials = authority
            .credentials(&id, &[], now, HOUR)
            .expect("a certificate");
        let bundle = TrustBundle::from_pem(domain.clone(), &authority.root_pem());
        IdentityStore::new(credentials, bundle.expect("a bundle"))
    };
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::builder(identity("gateway"), Arc::new(Service(gateway)))
        .listen_quic(local)
        .start()
        .await
        .expect("started");
    let address = server.local_addr().expect("an address");
    let session = Dialer::builder(identity("ns/team/agent/oak"))
        .expect_peer(domain.member("gateway").expect("an id"))
        .quic(address)
        .connect(Duration::from_secs(50))
        .await
        .expect("connected");
    World {
        _server: server,
        session,
    }
}

fn anyone(_: &Peer) -> bool {
    true
}

/// A connection whose other end is forwarded to the route.
pub(crate) fn connect(
    world: &World,
    route: &'static str,
    deadline: Option<Duration>,
) -> (DuplexStream, tokio::task::JoinHandle<Result<(), CallError>>) {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let session = world.session.clone();
    let task = tokio::spawn(async move {
        forward(&session, FORWARD, route, Class::Job, deadline, &mut theirs).await
    });
    (ours, task)
}

async fn request(world: &World, request: Vec<u8>) -> String {
    let (mut stream, task) = connect(world, "web", Some(Duration::from_secs(50)));
    let all = async {
        stream.write_all(&request).await.expect("sent");
        read_all(&mut stream).await
    };
    let answer = in_time("the answer", all).await;
    drop(stream);
    let _ = task.await.expect("no panic");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn the_trace_of_the_caller_reaches_the_service() {
    let address = http().await;
    let gateway = Gateway::new(Adapters::standard(false), 8);
    let world = world(gateway.route("web", format!("http:{address}"), anyone)).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options = OpenOptions {
        trace: TraceContext::parse(parent, "a=1"),
        ..OpenOptions::new(Class::Job)
    };
    let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let asking = async {
        let asked = b"GET /trace HTTP/1.1\r\nhost: oak\r\n\r\n";
        ours.write_all(asked).await.expect("sent");
        let answer = read_all(&mut ours).await;
        drop(ours);
        String::from_utf8(answer).expect("text")
    };
    let forwarding = forward(&world.session, FORWARD, "web", options, None, &mut theirs);
    let both = async { tokio::join!(asking, forwarding) };
    let (answer, _) = in_time("the answer", both).await;
    assert!(answer.ends_with(&format!("{parent}|a=1")), "{answer}");
}

#[tokio::test]
async fn a_real_http_service_answers_through_a_session_and_knows_who_asks() {
    let address = http().await;
    let gateway = Gateway::new(Adapters::standard(false), 8);
    let world = world(gateway.route("web", format!("http:{address}"), anyone)).await;
    let asked = "GET /who HTTP/1.1\r\nhost: oak\r\nx-valkyrie-peer: admin\r\n\r\n";
    let answer = request(&world, asked.into()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let context = "spiffe://test.example/ns/team/agent/oak|job|true";
    assert!(answer.ends_with(context), "{answer}");

    // A second request behind the first would carry what the caller likes: it gets no answer.
    let answer = request(&world, [asked, asked].concat().into()).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(answer.ends_with(context));

    let body = "acorn ".repeat(50_000);
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: oak\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = request(&world, (head + &body).into()).await;
    let (_, echoed) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(echoed == body, "{} bytes came back", echoed.len());
}

#[tokio::test]
async fn a_service_that_speaks_first_is_forwarded_and_each_way_ends_by_itself() {
    let (address, _) = tcp_echo(false).await;
    let gateway = Gateway::new(Adapters::standard(false), 8);
    let world = world(gateway.route("bus", format!("tcp:{address}"), anyone)).await;
    let (mut stream, task) = connect(&world, "bus", None);
    let mut greeting = vec![0; GREETING.len()];
    let read = in_time("the greeting", stream.read_exact(&mut greeting)).await;
    assert_eq!(
        (read.expect("read"), &greeting[..]),
        (GREETING.len(), GREETING)
    );
    stream.write_all(b"PING\r\n").await.expect("sent");
    stream.shutdown().await.expect("ended");
    let rest = in_time("the rest", read_all(&mut stream)).await;
    assert_eq!(rest, b"PING\r\nend");
    assert_eq!(in_time("the end", task).await.expect("no panic"), Ok(()));
}

/// How a forwarded connection fails.
async fn failure(world: &World, route: &'static str, deadline: Option<Duration>) -> CallError {
    let (stream, task) = connect(world, route, deadline);
    let failed = in_time("the failure", task).await.expect("no panic");
    drop(stream);
    failed.expect_err("it fails")
}

#[tokio::test]
async fn a_caller_reaches_only_its_routes_and_is_not_told_of_others() {
    let (address, _) = tcp_echo(false).await;
    let target = format!("tcp:{address}");
    let gateway = Gateway::new(Adapters::standard(false), 8)
        .route("bus", target.clone(), anyone)
        .route("secret", target, |_: &Peer| false)
        .route("gone", "unix:/nowhere/oak.sock", anyone)
        .route("broken", "gopher:oak", anyone);
    let world = world(gateway).await;
    let secret = failure(&world, "secret", None).await;
    assert_eq!(secret.code, Code::NotFound);
    let unknown = failure(&world, "tcp:127.0.0.1:22", None).await;
    assert_eq!(unknown, secret, "one word for both");
    let gone = failure(&world, "gone", None).await;
    assert_eq!(gone.code, Code::Unavailable);
    assert!(!gone.to_string().contains("nowhere"), "{gone}");
    let broken = failure(&world, "broken", None).await;
    assert_eq!(broken.code, Code::Internal);
    let nameless = open(&world.session, FORWARD, "", Class::Job, None).await;
    assert_eq!(nameless.err().expect("refused").code, Code::InvalidArgument);
}

#[tokio::test]
async fn the_deadline_ends_a_connection_and_a_full_gateway_refuses() {
    let (address, mut count) = tcp_echo(false).await;
    let gateway = Gateway::new(Adapters::standard(false), 1);
    let world = world(gateway.route("bus", format!("tcp:{address}"), anyone)).await;
    let (mut held, task) = connect(&world, "bus", None);
    let mut greeting = vec![0; GREETING.len()];
    let read = in_time("the greeting", held.read_exact(&mut greeting)).await;
    read.expect("connected");
    let full = failure(&world, "bus", None).await;
    assert_eq!((full.code, full.retryable), (Code::ResourceExhausted, true));
    drop(held);
    let _ = in_time("the end", task).await;
    in_time(
        "the end at the service",
        count.wait_for(|count| *count == 0),
    )
    .await
    .expect("it counts");
    // Whichever side's clock is first says the same; a place may be given back a moment later.
    let late = loop {
        let failed = failure(&world, "bus", Some(Duration::from_millis(300))).await;
        if failed.code != Code::ResourceExhausted {
            break failed;
        }
    };
    assert_eq!(late.code, Code::DeadlineExceeded);
    in_time(
        "the end at the service",
        count.wait_for(|count| *count == 0),
    )
    .await
    .expect("it counts");
}
