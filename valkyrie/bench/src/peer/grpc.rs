//! gRPC by tonic, with its own TLS: unary calls, bidirectional and client streams.
//! Must not use generated code: three methods are quicker written.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::server::NamedService;
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig,
};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Service;
use crate::pki;

const ECHO: &str = "/bench.Bench/Echo";
const CHAT: &str = "/bench.Bench/Chat";
const BULK: &str = "/bench.Bench/Bulk";
/// HTTP/2 windows as large as Valkyrie's.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// The only message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Packet {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
}

type Codec = ProstCodec<Packet, Packet>;

/// The server's methods; each is a service of its own for tonic.
#[derive(Clone)]
struct Methods(Arc<Service>);

impl NamedService for Methods {
    const NAME: &'static str = "bench.Bench";
}

impl tonic::codegen::Service<http::Request<Body>> for Methods {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.0.clone();
        async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            Ok(match request.uri().path() {
                ECHO => grpc.unary(Echo(service), request).await,
                CHAT => grpc.streaming(Chat(service), request).await,
                _ => grpc.client_streaming(Bulk(service), request).await,
            })
        }
        .boxed()
    }
}

struct Echo(Arc<Service>);

impl tonic::server::UnaryService<Packet> for Echo {
    type Response = Packet;
    type Future = BoxFuture<'static, Result<Response<Packet>, Status>>;

    fn call(&mut self, request: Request<Packet>) -> Self::Future {
        let body = self.0.answer(request.into_inner().body);
        std::future::ready(Ok(Response::new(Packet { body }))).boxed()
    }
}

struct Chat(Arc<Service>);

impl tonic::server::StreamingService<Packet> for Chat {
    type Response = Packet;
    type ResponseStream = futures::stream::BoxStream<'static, Result<Packet, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Packet>>) -> Self::Future {
        let service = self.0.clone();
        let answers = request.into_inner().map(move |packet| {
            packet.map(|packet| Packet {
                body: service.answer(packet.body),
            })
        });
        std::future::ready(Ok(Response::new(answers.boxed()))).boxed()
    }
}

struct Bulk(Arc<Service>);

impl tonic::server::ClientStreamingService<Packet> for Bulk {
    type Response = Packet;
    type Future = BoxFuture<'static, Result<Response<Packet>, Status>>;

    fn call(&mut self, request: Request<Streaming<Packet>>) -> Self::Future {
        let service = self.0.clone();
        async move {
            let mut packets = request.into_inner();
            let mut total = 0_u64;
            while let Some(packet) = packets.message().await? {
                total += packet.body.len() as u64;
                service.took(packet.body.len());
            }
            let body = Bytes::copy_from_slice(&total.to_be_bytes());
            Ok(Response::new(Packet { body }))
        }
        .boxed()
    }
}

/// Serves until the process ends.
pub(crate) async fn serve(
    pki: &Path,
    listen: SocketAddr,
    service: Arc<Service>,
) -> Result<SocketAddr> {
    let identity = Identity::from_pem(pki::read(pki, "server.pem")?, pki::read(pki, "server.key")?);
    let tls = ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(pki::read(pki, "ca.pem")?));
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .tls_config(tls)?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(Methods(service))
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    Ok(address)
}

/// Makes calls; a cheap handle.
#[derive(Clone)]
pub(crate) struct Caller(Grpc<Channel>);

/// Connects, and knows that it was accepted: one answer has come.
pub(crate) async fn connect(pki: &Path, server: SocketAddr) -> Result<Caller> {
    let identity = Identity::from_pem(pki::read(pki, "client.pem")?, pki::read(pki, "client.key")?);
    let tls = ClientTlsConfig::new()
        .domain_name(pki::NAME)
        .identity(identity)
        .ca_certificate(Certificate::from_pem(pki::read(pki, "ca.pem")?));
    let channel = Endpoint::from_shared(format!("https://{server}"))?
        .tls_config(tls)?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect()
        .await?;
    let caller = Caller(Grpc::new(channel));
    caller.echo(Bytes::from_static(b"hello")).await?;
    Ok(caller)
}

impl Caller {
    pub(crate) async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let mut grpc = self.0.clone();
        grpc.ready().await?;
        let path = PathAndQuery::from_static(ECHO);
        let answer: Response<Packet> = grpc
            .unary(Request::new(Packet { body }), path, Codec::default())
            .await?;
        Ok(answer.into_inner().body)
    }

    pub(crate) async fn bidi(&self) -> Result<Bidi> {
        let mut grpc = self.0.clone();
        grpc.ready().await?;
        let (requests, receiver) = mpsc::channel(1);
        let path = PathAndQuery::from_static(CHAT);
        let answers: Response<Streaming<Packet>> = grpc
            .streaming(
                Request::new(ReceiverStream::new(receiver)),
                path,
                Codec::default(),
            )
            .await?;
        Ok(Bidi(Mutex::new((requests, answers.into_inner()))))
    }

    /// Sends so many bytes in messages of this size.
    pub(crate) async fn bulk(&self, bytes: u64, size: usize) -> Result<()> {
        let mut grpc = self.0.clone();
        grpc.ready().await?;
        let body = Bytes::from(vec![7; size]);
        let whole = bytes / size as u64;
        let rest = (bytes % size as u64) as usize;
        let packets = futures::stream::iter(0..=whole).map(move |at| Packet {
            body: body.slice(..if at < whole { size } else { rest }),
        });
        let path = PathAndQuery::from_static(BULK);
        let confirmed: Response<Packet> = grpc
            .client_streaming(Request::new(packets), path, Codec::default())
            .await?;
        let confirmed = confirmed.into_inner().body;
        anyhow::ensure!(confirmed == bytes.to_be_bytes()[..], "bytes are missing");
        Ok(())
    }
}

/// A bidirectional stream on which requests follow each other.
pub(crate) struct Bidi(Mutex<(mpsc::Sender<Packet>, Streaming<Packet>)>);

impl Bidi {
    pub(crate) async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let mut halves = self.0.lock().await;
        halves.0.send(Packet { body }).await?;
        let answer = halves.1.message().await?;
        let answer = answer.ok_or_else(|| anyhow::anyhow!("the stream has ended"))?;
        Ok(answer.body)
    }
}
