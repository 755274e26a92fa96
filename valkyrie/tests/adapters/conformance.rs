//! What every adapter that passes bytes unchanged must do, whatever is below it.
//! Must not know how a particular adapter connects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use valkyrie::adapter::{
    Adapter, AdapterError, Adapters, Capabilities, Duplex, OpenContext, TcpAdapter, UnixAdapter,
};
use valkyrie::endpoint::{Class, Peer};

use crate::in_time;
use crate::services::{GREETING, echo, read_all, tcp_echo, unix_echo};

/// An adapter under test and what is there for it.
struct Case {
    adapter: Arc<dyn Adapter>,
    /// Leads to the greeting echo.
    target: String,
    /// Leads nowhere; none when there is no such target.
    missing: Option<String>,
    /// Can't be a target.
    wrong: String,
    /// Connections that the service has.
    open: watch::Receiver<usize>,
}

fn context() -> OpenContext {
    OpenContext {
        peer: Peer::Anonymous,
        class: Class::Job,
        deadline: None,
    }
}

async fn greeted(case: &Case) -> Box<dyn Duplex> {
    let opened = case.adapter.open(&case.target, &context()).await;
    let mut stream = opened.expect("the service is there");
    let mut greeting = vec![0; GREETING.len()];
    let read = in_time("the greeting", stream.read_exact(&mut greeting)).await;
    read.expect("the service speaks first");
    assert_eq!(greeting, GREETING);
    stream
}

/// Bytes go both ways at once, in order and whole, and each way ends by itself.
async fn passes_bytes_and_ends(case: &Case) {
    let (mut read, mut write) = tokio::io::split(greeted(case).await);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let expected = [&sent[..], b"end"].concat();
    let sending = async {
        write.write_all(&sent).await.expect("taken");
        write.shutdown().await.expect("ended");
    };
    let both = async { tokio::join!(sending, read_all(&mut read)).1 };
    let got = in_time("the echo", both).await;
    assert!(got == expected, "{} bytes came back", got.len());
}

/// A dropped connection ends at the service too.
async fn ends_when_dropped(case: &Case) {
    let mut open = case.open.clone();
    let gone = |count: &usize| *count == 0;
    in_time("the ones before", open.wait_for(gone))
        .await
        .expect("it counts");
    let stream = greeted(case).await;
    assert_eq!(*open.borrow(), 1);
    drop(stream);
    in_time("the end at the service", open.wait_for(gone))
        .await
        .expect("it counts");
}

/// What cannot be reached is an error of the right kind, at once or by the deadline.
async fn refuses(case: &Case) {
    let open = |target: String| async move {
        let opened = case.adapter.open(&target, &context()).await;
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

/// The whole suite.
async fn conforms(case: Case) {
    let Capabilities {
        half_close,
        transparent,
        ..
    } = case.adapter.capabilities();
    assert!(transparent && half_close, "this suite is for such adapters");
    let name = case.adapter.name();
    assert!(!name.is_empty() && !name.contains(':') && name == name.to_lowercase());
    passes_bytes_and_ends(&case).await;
    ends_when_dropped(&case).await;
    refuses(&case).await;
}

/// A port that was free a moment ago.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test]
async fn every_adapter_over_tcp_conforms() {
    for name in ["tcp", "http2", "grpc", "nats"] {
        let (address, open) = tcp_echo().await;
        let standard = Adapters::standard(false);
        conforms(Case {
            adapter: standard.adapter(name).expect("a standard one").clone(),
            target: address.to_string(),
            missing: Some(closed_port()),
            wrong: "no-port".into(),
            open,
        })
        .await;
    }
}

#[tokio::test]
async fn the_unix_adapter_conforms() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("oak.sock");
    let open = unix_echo(&path);
    conforms(Case {
        adapter: Arc::new(UnixAdapter::new("unix", false)),
        target: path.display().to_string(),
        missing: Some(dir.path().join("elm.sock").display().to_string()),
        wrong: "relative.sock".into(),
        open,
    })
    .await;
}

/// An adapter that this crate does not have: a service in the same process.
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
            context: false,
        }
    }

    async fn open(
        &self,
        target: &str,
        context: &OpenContext,
    ) -> Result<Box<dyn Duplex>, AdapterError> {
        if target != "echo" {
            return Err(AdapterError::Target {
                adapter: self.name().to_owned(),
                target: target.to_owned(),
            });
        }
        if context.deadline.is_some_and(|it| it <= Instant::now()) {
            return Err(AdapterError::Deadline(target.to_owned()));
        }
        let (ours, theirs) = tokio::io::duplex(8 * 1024);
        tokio::spawn(echo(theirs, self.open.clone()));
        Ok(Box::new(ours))
    }
}

#[tokio::test]
async fn an_adapter_of_another_crate_conforms_and_is_found_by_its_scheme() {
    let (open, count) = watch::channel(0);
    let adapters = Adapters::standard(false).with(InProcess { open });
    conforms(Case {
        adapter: adapters.adapter("inprocess").expect("put in").clone(),
        target: "echo".into(),
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

#[tokio::test]
async fn a_proxy_header_tells_the_service_who_asks() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let adapter = TcpAdapter::new("tcp", true);
    assert!(adapter.capabilities().context);
    let asked = OpenContext {
        deadline: Some(Instant::now() + Duration::from_secs(30)),
        ..context()
    };
    let (opened, accepted) = tokio::join!(adapter.open(&address, &asked), listener.accept());
    drop(opened.expect("reached"));
    let (mut stream, _) = accepted.expect("reached");
    let header = in_time("the header", read_all(&mut stream)).await;
    assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x00"));
    let class = b"\xE1\x00\x03job\xE2\x00\x08";
    assert!(header.windows(class.len()).any(|part| part == class));
}
