//! Forwards an HTTP service through Valkyrie: a gateway over QUIC beside the service, a listener
//! beside its users. Must not be taken for a deployment: both ends and their certificates are in
//! one process here.
//!
//! ```text
//! python3 -m http.server 8000 &
//! cargo run -p valkyrie --example forward_http -- http:127.0.0.1:8000 127.0.0.1:9000
//! curl http://127.0.0.1:9000/
//! ```
//!
//! With `grpc:127.0.0.1:50051`, `tcp:host:port` or `unix:/path` the same forwards other services.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
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
    async fn call(&self, _: CallContext, method: Method, _: Bytes) -> Result<Bytes, CallError> {
        Err(CallError::new(Code::Unimplemented, format!("{method:?}")))
    }

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

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(target), Some(listen)) = (arguments.next(), arguments.next()) else {
        return Err("usage: forward_http <scheme:target> <address to listen on>".into());
    };
    let domain = TrustDomain::parse("example.test")?;
    let day = Duration::from_secs(86_400);
    let authority = Authority::generate(domain.clone(), SystemTime::now(), day)?;
    let identity = |path: &str| -> Result<IdentityStore, Box<dyn std::error::Error>> {
        let now = SystemTime::now();
        let credentials = authority.credentials(&domain.member(path)?, &[], now, day / 2)?;
        let bundle = TrustBundle::from_pem(domain.clone(), &authority.root_pem())?;
        Ok(IdentityStore::new(credentials, bundle))
    };

    let only_users = |peer: &Peer| matches!(peer, Peer::Spiffe(id) if id.path() == "/user");
    let gateway = Gateway::new(Adapters::standard(false), 1024).route("it", target, only_users);
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
    let listener = TcpListener::bind(&listen).await?;
    tokio::select! {
        served = serve(&listener, session) => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

/// Forwards each connection until the listener fails.
async fn serve(listener: &TcpListener, session: Session) -> std::io::Result<()> {
    loop {
        let (mut connection, from) = listener.accept().await?;
        let session = session.clone();
        tokio::spawn(async move {
            let done = forward(&session, FORWARD, "it", Class::Job, None, &mut connection).await;
            if let Err(error) = done {
                tracing::warn!(%from, %error, "a connection was not forwarded to its end");
            }
        });
    }
}
