//! A real NATS server, and services on it that know nothing of Valkyrie.
//! Must not pass where there is no server: a run of all tests fails then.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use valkyrie::adapter::{Adapter, AdapterError, Adapters, Duplex, Gateway, NatsAdapter};
use valkyrie::endpoint::{Code, Peer};

use crate::conformance::{closed_port, context};
use crate::gateway::{connect, world};
use crate::in_time;
use crate::services::{DEADLINE_MS, read_all, tcp};

const USER: (&str, &str) = ("oak", "acorn");

/// `nats-server` of this machine, for one test.
pub(crate) struct Nats {
    process: Child,
    pub(crate) address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    _dir: TempDir,
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Nats {
    /// Starts one on a port of its own; none where it is not installed.
    pub(crate) async fn start(tls: bool) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("nats-server");
        let ports = ["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"];
        command.args(ports).arg(dir.path());
        command.args(["--user", USER.0, "--pass", USER.1]);
        let tls = tls.then(|| secure(&mut command, dir.path()));
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(process) = started else {
            let all = std::env::var_os("RUSTCI_TEST_ALL").is_some();
            assert!(!all, "nats-server is not installed");
            tracing::warn!("no nats-server here: its adapter is not tested");
            return None;
        };
        let file = dir
            .path()
            .join(format!("nats-server_{}.ports", process.id()));
        let mut server = Self {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls,
            _dir: dir,
        };
        server.address = in_time("the server's port", port(&file)).await;
        Some(server)
    }

    /// An adapter that trusts this server.
    pub(crate) fn adapter(&self) -> NatsAdapter {
        let adapter = NatsAdapter::new().user(USER.0, USER.1);
        match &self.tls {
            Some(config) => adapter.tls(config.clone()),
            None => adapter,
        }
    }

    /// Answers requests to a subject, from when this returns until the server ends.
    pub(crate) async fn serve(&self, subject: &str, answer: fn(&str, &[u8]) -> Option<Vec<u8>>) {
        let mut socket = TcpStream::connect(self.address).await.expect("connected");
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(socket.read_u8().await.expect("its INFO"));
        }
        let stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(socket),
            Some(config) => {
                let name = ServerName::try_from("127.0.0.1").expect("a name");
                let connector = TlsConnector::from(config.clone());
                Box::new(connector.connect(name, socket).await.expect("TLS"))
            }
        };
        let mut stream = BufReader::new(stream);
        let (user, pass) = USER;
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"user\":\"{user}\",\"pass\":\"{pass}\"}}\
             \r\nSUB {subject} 1\r\nPING\r\n"
        );
        stream.write_all(hello.as_bytes()).await.expect("sent");
        stream.flush().await.expect("sent");
        let mut line = String::new();
        while line != "PONG\r\n" {
            line.clear();
            stream.read_line(&mut line).await.expect("an answer");
            assert!(!line.is_empty() && !line.starts_with("-ERR"), "{line:?}");
        }
        tokio::spawn(respond(stream, answer));
    }
}

/// Until the server ends.
async fn respond(
    mut stream: BufReader<Box<dyn Duplex>>,
    answer: fn(&str, &[u8]) -> Option<Vec<u8>>,
) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let reply = match words[..] {
            ["HMSG", _, _, inbox, of_head, of_all] => {
                let number = |word: &str| word.parse::<usize>().expect("a number");
                let mut all = vec![0; number(of_all) + 2];
                stream.read_exact(&mut all).await?;
                let (head, body) = all.split_at(number(of_head));
                let head = std::str::from_utf8(head).expect("text");
                answer(head, &body[..body.len() - 2]).map(|answer| {
                    let before = format!("PUB {inbox} {}\r\n", answer.len());
                    [before.as_bytes(), &answer, b"\r\n"].concat()
                })
            }
            ["PING"] => Some(b"PONG\r\n".to_vec()),
            _ => None,
        };
        if let Some(reply) = reply {
            stream.write_all(&reply).await?;
            stream.flush().await?;
        }
    }
}

/// A certificate for the server, and who trusts it.
fn secure(command: &mut Command, dir: &Path) -> Arc<ClientConfig> {
    let names = vec!["127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    command.args(["--tls", "--tlscert"]).arg(&cert);
    command.arg("--tlskey").arg(&key);
    let mut roots = rustls::RootCertStore::empty();
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(&cert);
    roots.add(certificate.expect("read")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().expect("TLS");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// The port, when the server has written it.
async fn port(file: &Path) -> SocketAddr {
    loop {
        let text = std::fs::read(file).unwrap_or_default();
        let ports: Result<serde_json::Value, _> = serde_json::from_slice(&text);
        let url = ports
            .ok()
            .and_then(|it| it["nats"][0].as_str().map(str::to_owned));
        if let Some((_, address)) = url.as_deref().and_then(|url| url.split_once("://")) {
            return address.parse().expect("an address");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends the request back.
pub(crate) fn echo(_: &str, body: &[u8]) -> Option<Vec<u8>> {
    Some(body.to_vec())
}

/// Says what the request's headers say.
pub(crate) fn tell(head: &str, _: &[u8]) -> Option<Vec<u8>> {
    let value = |name: &str| {
        let mut lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
        let found = lines.find(|(it, _)| *it == name);
        found.map(|(_, value)| value).unwrap_or_default()
    };
    let millis = value("x-valkyrie-deadline-ms").parse::<u64>();
    let timed = millis.is_ok_and(|it| (1..=DEADLINE_MS).contains(&it));
    let (peer, class) = (value("x-valkyrie-peer"), value("x-valkyrie-class"));
    Some(format!("{peer}|{class}|{timed}").into_bytes())
}

fn nothing(_: &str, _: &[u8]) -> Option<Vec<u8>> {
    None
}

fn anyone(_: &Peer) -> bool {
    true
}

#[tokio::test]
async fn a_nats_service_answers_through_a_session_within_the_deadline_or_not_at_all() {
    let Some(server) = Nats::start(false).await else {
        return;
    };
    server.serve("who", tell).await;
    server.serve("silent", nothing).await;
    let route = |subject: &str| format!("nats:{}/{subject}", server.address);
    let gateway = Gateway::new(Adapters::standard(false).with(server.adapter()), 8)
        .route("who", route("who"), anyone)
        .route("silent", route("silent"), anyone)
        .route("nobody", route("nobody"), anyone);
    let world = world(gateway).await;
    let deadline = Some(Duration::from_millis(DEADLINE_MS));
    let (mut stream, task) = connect(&world, "who", deadline);
    stream.shutdown().await.expect("ended");
    let told = in_time("the answer", read_all(&mut stream)).await;
    let told = String::from_utf8(told).expect("text");
    assert_eq!(told, "spiffe://test.example/ns/team/agent/oak|job|true");
    assert_eq!(in_time("the end", task).await.expect("no panic"), Ok(()));

    let ask = async |route: &'static str, deadline: Option<Duration>| {
        let (mut stream, task) = connect(&world, route, deadline);
        stream.shutdown().await.expect("ended");
        let ended = in_time("the end", task).await.expect("no panic");
        ended.expect_err("it fails").code
    };
    assert_eq!(ask("nobody", None).await, Code::Unavailable);
    let soon = Some(Duration::from_millis(300));
    assert_eq!(ask("silent", soon).await, Code::DeadlineExceeded);
    let large = async {
        let (mut stream, task) = connect(&world, "who", deadline);
        // The server takes one MiB; the connection may end before all of it is written.
        let _ = stream.write_all(&vec![7; (1 << 20) + 1]).await;
        task.await.expect("no panic").expect_err("too large").code
    };
    assert_eq!(in_time("the refusal", large).await, Code::InvalidArgument);
}

#[tokio::test]
async fn a_server_that_is_none_or_not_as_it_was_said_to_be_is_refused() {
    let refused = async |adapter: NatsAdapter, target: String| {
        let opened = in_time("a refusal", adapter.open(&target, &context())).await;
        match opened.map(|_| ()).expect_err("no connection") {
            AdapterError::Unavailable { source, .. } => source.to_string(),
            other => panic!("{other}"),
        }
    };
    let says = async |what: &'static str| {
        let address = tcp(move |mut stream| async move {
            let _ = stream.write_all(what.as_bytes()).await;
        });
        refused(NatsAdapter::new(), format!("{}/who", address.await)).await
    };
    assert_eq!(
        says("HTTP/1.1 400 Bad Request\r\n").await,
        "this is no NATS server"
    );
    assert_eq!(says("INFO {}\r\n").await, "this is no NATS server");
    let without = says("INFO {\"max_payload\":1,\"headers\":false}\r\n").await;
    assert_eq!(without, "the server passes no headers");
    assert_eq!(says("INFO {").await, "unexpected end of file");
    for tls in [false, true] {
        let Some(server) = Nats::start(tls).await else {
            return;
        };
        let target = format!("{}/who", server.address);
        let stranger = server.adapter().user("elm", "acorn");
        let stranger = refused(stranger, target.clone()).await;
        assert!(stranger.contains("Authorization Violation"), "{stranger}");
        if tls {
            let plain = NatsAdapter::new().user(USER.0, USER.1);
            assert_eq!(refused(plain, target).await, "the server demands TLS");
        } else {
            let dir = tempfile::tempdir().expect("a folder");
            let other = secure(&mut Command::new("true"), dir.path());
            let wants = server.adapter().tls(other);
            assert_eq!(refused(wants, target).await, "the server has no TLS");
        }
    }
    let silent = tcp(|stream| async move {
        let _held = stream;
        std::future::pending().await
    });
    let soon = valkyrie::adapter::OpenContext {
        deadline: Some(std::time::Instant::now() + Duration::from_millis(200)),
        ..context()
    };
    let target = format!("{}/who", silent.await);
    let opened = NatsAdapter::new().open(&target, &soon).await;
    assert!(matches!(opened.map(|_| ()), Err(AdapterError::Deadline(_))));
    let missing = refused(NatsAdapter::new(), format!("{}/who", closed_port())).await;
    assert!(!missing.is_empty());
}
