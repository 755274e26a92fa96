//! Forwards services through Valkyrie: a gateway over QUIC beside the service, a listener beside its
//! users. Must not be taken for a deployment: both ends and their certificates are in one process.
//!
//! Without arguments it starts an HTTP service and a gRPC service, forwards them and asks them:
//!
//! ```text
//! cargo run -p valkyrie --example forward
//! ```
//!
//! With a service of one's own, `tcp:`, `unix:`, `http:` or `grpc:`:
//!
//! ```text
//! python3 -m http.server 8000 &
//! cargo run -p valkyrie --example forward -- http:127.0.0.1:8000 127.0.0.1:9000 &
//! curl http://127.0.0.1:9000/
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use valkyrie::adapter::{Adapters, Gateway, forward};
use valkyrie::endpoint::{
    CallContext, CallError, Class, Code, Dialer, Handler, Method, Peer, Rx, Server, Session, Tx,
};
use valkyrie::identity::{Authority, IdentityStore, TrustBundle, TrustDomain};

/// The method under which the gateway is served; any number that both ends agree on.
const FORWARD: Method = Method(1);

struct Service(Gateway);

#[async_trait]
impl Handler for Service {
    async fn stream(
        &self,
        context: CallContext,
        method: Method,
        head: Bytes,
        tx: Tx,
        rx: Rx,
    ) -> Result<(), CallError> {
        match method {
            FORWARD => self.0.serve(&context, head, tx, rx).await,
            _ => Err(CallError::new(Code::Unimplemented, format!("{method:?}"))),
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Both ends: a gateway that is served over QUIC, and the session of one user.
struct Ends {
    server: Server,
    session: Session,
}

/// Lets the members called `user` use these routes: names, and `scheme:target`.
async fn connect(routes: &[(&str, String)]) -> Result<Ends, Failed> {
    let domain = TrustDomain::parse("example.test")?;
    let day = Duration::from_secs(86_400);
    let authority = Authority::generate(domain.clone(), SystemTime::now(), day)?;
    let identity = |path: &str| -> Result<IdentityStore, Failed> {
        let now = SystemTime::now();
        let credentials = authority.credentials(&domain.member(path)?, &[], now, day / 2)?;
        let bundle = TrustBundle::from_pem(domain.clone(), &authority.root_pem())?;
        Ok(IdentityStore::new(credentials, bundle))
    };

    let only_users = |peer: &Peer| matches!(peer, Peer::Spiffe(id) if id.path() == "/user");
    let mut gateway = Gateway::new(Adapters::standard(false), 1024);
    for (name, target) in routes {
        gateway = gateway.route(*name, target.clone(), only_users);
    }
    let server = Server::builder(identity("gateway")?, Arc::new(Service(gateway)))
        .listen_quic(SocketAddr::from(([127, 0, 0, 1], 0)))
        .start()
        .await?;
    let address = server.local_addr().ok_or("QUIC has an address")?;

    let session = Dialer::builder(identity("user")?)
        .expect_peer(domain.member("gateway")?)
        .quic(address)
        .connect(Duration::from_secs(10))
        .await?;
    Ok(Ends { server, session })
}

/// What two services of this process answered through Valkyrie.
#[derive(Debug, PartialEq)]
struct Answers {
    http: String,
    grpc: ServingStatus,
}

/// Starts an HTTP service and a gRPC service, forwards both, and asks them as any program would:
/// by ordinary clients and a local port.
async fn demonstrate() -> Result<Answers, Failed> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let http = TcpListener::bind(any).await?;
    let grpc = TcpListener::bind(any).await?;
    let routes = [
        ("web", format!("http:{}", http.local_addr()?)),
        ("health", format!("grpc:{}", grpc.local_addr()?)),
    ];
    // The adapter tells the service who asks, whatever the client says of itself.
    let hello = |headers: axum::http::HeaderMap| async move {
        let peer = headers.get("x-valkyrie-peer").cloned();
        let peer = peer.and_then(|peer| peer.to_str().ok().map(str::to_owned));
        format!("hello {}", peer.unwrap_or_default())
    };
    let app = axum::Router::new().route("/", axum::routing::get(hello));
    tokio::spawn(async move { axum::serve(http, app).await });
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("it", tonic_health::ServingStatus::Serving)
        .await;
    let incoming = tonic::transport::server::TcpIncoming::from(grpc);
    let service = tonic::transport::Server::builder().add_service(health);
    tokio::spawn(service.serve_with_incoming(incoming));

    let ends = connect(&routes).await?;
    let mut ports = Vec::new();
    for name in ["web", "health"] {
        let listener = TcpListener::bind(any).await?;
        ports.push(listener.local_addr()?);
        tokio::spawn(serve(listener, ends.session.clone(), name));
    }
    let answers = Answers {
        http: over_http(ports[0]).await?,
        grpc: over_grpc(ports[1]).await?,
    };
    ends.server.shutdown(Duration::from_secs(1)).await;
    Ok(answers)
}

/// The body of an ordinary request.
async fn over_http(address: SocketAddr) -> Result<String, Failed> {
    let mut connection = TcpStream::connect(address).await?;
    let request = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no whole answer")?;
    Ok(body.to_owned())
}

/// What the standard health service says.
async fn over_grpc(address: SocketAddr) -> Result<ServingStatus, Failed> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?;
    let mut client = HealthClient::new(channel.connect().await?);
    let service = "it".to_owned();
    let answer = client.check(HealthCheckRequest { service }).await?;
    Ok(answer.into_inner().status())
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "what the example is for")]
async fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let (target, listen) = match (arguments.next(), arguments.next()) {
        (None, _) => {
            let Answers { http, grpc } = demonstrate().await?;
            println!("over HTTP: {http}\nover gRPC: {grpc:?}");
            return Ok(());
        }
        (Some(target), Some(listen)) => (target, listen),
        (Some(_), None) => return Err("usage: forward [SCHEME:TARGET ADDRESS]".into()),
    };
    let ends = connect(&[("it", target)]).await?;
    let listener = TcpListener::bind(&listen).await?;
    tokio::select! {
        served = serve(listener, ends.session, "it") => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    ends.server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

/// Forwards each connection until the listener fails.
async fn serve(
    listener: TcpListener,
    session: Session,
    route: &'static str,
) -> std::io::Result<()> {
    loop {
        let (mut connection, from) = listener.accept().await?;
        let session = session.clone();
        tokio::spawn(async move {
            let done = forward(&session, FORWARD, route, Class::Job, None, &mut connection).await;
            if let Err(error) = done {
                tracing::warn!(%from, %error, "a connection was not forwarded to its end");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_services_answer_through_valkyrie() {
        let answers = demonstrate().await.expect("both are reached");
        let http = "hello spiffe://example.test/user".to_owned();
        let grpc = ServingStatus::Serving;
        assert_eq!(answers, Answers { http, grpc });
    }
}
