//! What every adapter must do, whatever is below it: one suite.
//! Must not know how a particular adapter connects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use valkyrie::adapter::{
    Adapter, AdapterError, Adapters, Capabilities, Duplex, HttpAdapter, OpenContext, TcpAdapter,
    UnixAdapter,
};
use valkyrie::endpoint::{Class, Peer};
use valkyrie::identity::SpiffeId;

use crate::http2;
use crate::in_time;
use crate::nats::{self, Nats};
use crate::services::{
    DEADLINE_MS, GREETING, counted, echo, http, read_all, tcp, tcp_echo, tell, unix,
};

/// How one speaks with the service behind an adapter.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Speech {
    /// It greets, bytes come back as they are, then its end.
    Plain,
    /// A request of HTTP/1.1.
    Http,
    /// A request of HTTP/2.
    Http2,
    /// The request's bytes alone.
    Bare,
}

impl Speech {
    /// What to send, to hear this again.
    fn ask(self, payload: &[u8]) -> Vec<u8> {
        let length = payload.len();
        let head = format!("POST /echo HTTP/1.1\r\nhost: oak\r\ncontent-length: {length}\r\n\r\n");
        match self {
            Speech::Plain | Speech::Bare | Speech::Http2 => payload.to_vec(),
            Speech::Http => [head.as_bytes(), payload].concat(),
        }
    }

    /// What to send, to hear what the service was told.
    fn who(self) -> &'static [u8] {
        match self {
            Speech::Plain | Speech::Bare | Speech::Http2 => b"",
            Speech::Http => b"GET /who HTTP/1.1\r\nhost: oak\r\nx-valkyrie-peer: admin\r\n\r\n",
        }
    }

    /// What was meant, of what came.
    fn heard(self, answer: Vec<u8>) -> Vec<u8> {
        match self {
            Speech::Bare | Speech::Http2 => answer,
            Speech::Plain => {
                let rest = answer.strip_prefix(GREETING).expect("a greeting");
                rest.strip_suffix(b"end").expect("an end").to_vec()
            }
            Speech::Http => body(answer),
        }
    }
}

fn body(answer: Vec<u8>) -> Vec<u8> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    answer[end.expect("a head") + 4..].to_vec()
}

/// An adapter under test and what is there for it.
pub(crate) struct Case {
    pub(crate) adapter: Arc<dyn Adapter>,
    pub(crate) speech: Speech,
    /// Leads to an echo.
    pub(crate) target: String,
    /// Leads to a service that says what it was told; none for an adapter that tells nothing.
    pub(crate) tells: Option<String>,
    /// Leads nowhere; none when there is no such target.
    pub(crate) missing: Option<String>,
    /// Can't be a target.
    pub(crate) wrong: String,
    /// Connections that the service has.
    pub(crate) open: watch::Receiver<usize>,
}

pub(crate) fn context() -> OpenContext {
    OpenContext {
        peer: Peer::Spiffe(SpiffeId::parse("spiffe://test.example/ns/a/agent/oak").expect("an id")),
        class: Class::Log,
        deadline: None,
        trace: None,
    }
}

async fn opened(case: &Case, target: &str, context: &OpenContext) -> Box<dyn Duplex> {
    let opened = in_time("a connection", case.adapter.open(target, context)).await;
    opened.expect("the service is there")
}

/// Sends all of it, while it takes in what comes. The end follows where it belongs to what is
/// said; a server of HTTP may take an early one for a caller that has gone.
async fn exchange(speech: Speech, stream: Box<dyn Duplex>, path: &str, asked: &[u8]) -> Vec<u8> {
    if speech == Speech::Http2 {
        return in_time("the answer", http2::request(stream, path, asked)).await;
    }
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        write.write_all(asked).await.expect("taken");
        match speech {
            Speech::Plain | Speech::Bare => write.shutdown().await.expect("ended"),
            Speech::Http | Speech::Http2 => write.flush().await.expect("taken"),
        }
    };
    let both = async { tokio::join!(sending, read_all(&mut read)).1 };
    in_time("the answer", both).await
}

/// Bytes go both ways, in order and whole, and each way ends by itself.
async fn passes_bytes_and_ends(case: &Case) {
    for length in [0, 1, 1_000_000] {
        let sent: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let stream = opened(case, &case.target, &context()).await;
        let got = exchange(case.speech, stream, "/echo", &case.speech.ask(&sent)).await;
        let got = case.speech.heard(got);
        assert!(got == sent, "{} of {length} bytes came back", got.len());
    }
}

/// A transparent adapter lets the service speak first.
async fn lets_the_service_begin(case: &Case) {
    let mut stream = opened(case, &case.target, &context()).await;
    let mut greeting = vec![0; GREETING.len()];
    let read = in_time("the greeting", stream.read_exact(&mut greeting)).await;
    read.expect("the service speaks first");
    assert_eq!(greeting, GREETING);
}

/// A dropped connection ends at the service too.
async fn ends_when_dropped(case: &Case) {
    let mut open = case.open.clone();
    let mut counts = async |wanted: usize| {
        let count = in_time("the connections", open.wait_for(|count| *count == wanted)).await;
        count.expect("it counts");
    };
    counts(0).await;
    let stream = opened(case, &case.target, &context()).await;
    counts(1).await;
    drop(stream);
    counts(0).await;
}

/// What cannot be reached is an error of the right kind, at once or by the deadline.
async fn refuses(case: &Case) {
    let open = |target: String| async move {
        let opened = in_time("an error", case.adapter.open(&target, &context())).await;
        opened.map(|_| ()).expect_err("no connection")
    };
    if let Some(missing) = &case.missing {
        let error = open(missing.clone()).await;
        assert!(matches!(error, AdapterError::Unavailable { .. }), "{error}");
    }
    let error = open(case.wrong.clone()).await;
    assert!(matches!(error, AdapterError::Target { .. }), "{error}");
    let past = OpenContext {
        deadline: Some(Instant::now()),
        ..context()
    };
    let late = case.adapter.open(&case.target, &past).await.map(|_| ());
    assert!(matches!(late, Err(AdapterError::Deadline(_))));
}

/// Who asks, how urgently and for how long reach the service, whatever the caller claims.
async fn tells_the_context(case: &Case) {
    assert_eq!(case.adapter.capabilities().context, case.tells.is_some());
    let Some(target) = &case.tells else {
        return;
    };
    let timed = OpenContext {
        deadline: Some(Instant::now() + Duration::from_millis(DEADLINE_MS)),
        ..context()
    };
    let anonymous = OpenContext {
        peer: Peer::Anonymous,
        class: Class::Bulk,
        ..context()
    };
    for (context, expected) in [
        (timed, "spiffe://test.example/ns/a/agent/oak|log|true"),
        (context(), "spiffe://test.example/ns/a/agent/oak|log|false"),
        (anonymous, "|bulk|false"),
    ] {
        let stream = opened(case, target, &context).await;
        let told = exchange(case.speech, stream, "/who", case.speech.who()).await;
        let told = match case.speech {
            Speech::Http => body(told),
            Speech::Plain | Speech::Bare | Speech::Http2 => told,
        };
        assert_eq!(String::from_utf8(told).expect("text"), expected);
    }
}

/// The whole suite.
pub(crate) async fn conforms(case: Case) {
    let Capabilities {
        half_close,
        transparent,
        context: _,
    } = case.adapter.capabilities();
    // In HTTP/2 each request ends its ways, not the connection.
    assert_eq!(half_close, case.speech != Speech::Http2);
    assert_eq!(transparent, case.speech == Speech::Plain);
    let name = case.adapter.name();
    assert!(!name.is_empty() && !name.contains(':') && name == name.to_lowercase());
    if transparent {
        lets_the_service_begin(&case).await;
    }
    passes_bytes_and_ends(&case).await;
    ends_when_dropped(&case).await;
    refuses(&case).await;
    tells_the_context(&case).await;
}

/// A port that was free a moment ago.
pub(crate) fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test]
async fn the_tcp_adapter_conforms_with_and_without_a_proxy_header() {
    for headed in [false, true] {
        let (address, open) = tcp_echo(headed).await;
        let standard = Adapters::standard(headed);
        conforms(Case {
            adapter: standard.adapter("tcp").expect("a standard one").clone(),
            speech: Speech::Plain,
            target: address.to_string(),
            tells: match headed {
                true => Some(tcp(tell).await.to_string()),
                false => None,
            },
            missing: Some(closed_port()),
            wrong: "no-port".into(),
            open,
        })
        .await;
    }
}

#[tokio::test]
async fn the_unix_adapter_conforms_with_and_without_a_proxy_header() {
    for headed in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        let (count, open) = watch::channel(0);
        unix(&path("oak.sock"), move |stream| {
            echo(stream, count.clone(), headed)
        });
        unix(&path("ash.sock"), tell);
        conforms(Case {
            adapter: Arc::new(UnixAdapter::new("unix", headed)),
            speech: Speech::Plain,
            target: path("oak.sock").display().to_string(),
            tells: headed.then(|| path("ash.sock").display().to_string()),
            missing: Some(path("elm.sock").display().to_string()),
            wrong: "relative.sock".into(),
            open,
        })
        .await;
    }
}

#[tokio::test]
async fn the_http_adapter_conforms() {
    let (address, open) = counted(http().await).await;
    conforms(Case {
        adapter: Arc::new(HttpAdapter::new(TcpAdapter::new("http", false))),
        speech: Speech::Http,
        target: address.to_string(),
        tells: Some(address.to_string()),
        missing: Some(closed_port()),
        wrong: "no-port".into(),
        open,
    })
    .await;
}

#[tokio::test]
async fn the_adapters_of_http2_and_grpc_conform() {
    for name in ["http2", "grpc"] {
        let (address, open) = counted(http().await).await;
        conforms(Case {
            adapter: Adapters::standard(true).adapter(name).expect("one").clone(),
            speech: Speech::Http2,
            target: address.to_string(),
            tells: Some(address.to_string()),
            missing: Some(closed_port()),
            wrong: "no-port".into(),
            open,
        })
        .await;
    }
}

#[tokio::test]
async fn the_nats_adapter_conforms_with_a_real_server_with_and_without_tls() {
    for tls in [false, true] {
        let Some(server) = Nats::start(tls).await else {
            return;
        };
        server.serve("echo", nats::echo).await;
        server.serve("who", nats::tell).await;
        let (address, open) = counted(server.address).await;
        conforms(Case {
            adapter: Arc::new(server.adapter()),
            speech: Speech::Bare,
            target: format!("{address}/echo"),
            tells: Some(format!("{address}/who")),
            missing: Some(format!("{}/echo", closed_port())),
            wrong: format!("{address}/echo.*"),
            open,
        })
        .await;
    }
}

/// An adapter that this crate does not have, by its public words alone: a service in the same
/// process.
struct InProcess {
    open: watch::Sender<usize>,
}

#[async_trait]
impl Adapter for InProcess {
    fn name(&self) -> &str {
        "inprocess"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            half_close: true,
            transparent: true,
            context: true,
        }
    }

    async fn open(
        &self,
        target: &str,
        context: &OpenContext,
    ) -> Result<Box<dyn Duplex>, AdapterError> {
        if context.deadline.is_some_and(|it| it <= Instant::now()) {
            return Err(AdapterError::Deadline(target.to_owned()));
        }
        let (ours, theirs) = tokio::io::duplex(8 * 1024);
        match target {
            "echo" => drop(tokio::spawn(echo(theirs, self.open.clone(), false))),
            "who" => drop(tokio::spawn(tell_directly(theirs, context.clone()))),
            _ => {
                return Err(AdapterError::Target {
                    adapter: self.name().to_owned(),
                    target: target.to_owned(),
                });
            }
        }
        Ok(Box::new(ours))
    }
}

async fn tell_directly(mut stream: tokio::io::DuplexStream, context: OpenContext) {
    let peer = match &context.peer {
        Peer::Anonymous => String::new(),
        Peer::Spiffe(id) => id.to_string(),
    };
    let class = format!("{:?}", context.class).to_lowercase();
    let told = format!("{peer}|{class}|{}", context.deadline.is_some());
    stream.write_all(told.as_bytes()).await.expect("written");
}

#[tokio::test]
async fn an_adapter_of_another_crate_conforms_and_is_found_by_its_scheme() {
    let (open, count) = watch::channel(0);
    let adapters = Adapters::standard(false).with(InProcess { open });
    conforms(Case {
        adapter: adapters.adapter("inprocess").expect("put in").clone(),
        speech: Speech::Plain,
        target: "echo".into(),
        tells: Some("who".into()),
        missing: None,
        wrong: "elm".into(),
        open: count,
    })
    .await;
    let opened = adapters.open("inprocess:echo", &context()).await;
    assert!(opened.is_ok());
    let unknown = adapters.open("gopher:oak:70", &context()).await;
    assert!(matches!(unknown.map(|_| ()), Err(AdapterError::Scheme(_))));
}
