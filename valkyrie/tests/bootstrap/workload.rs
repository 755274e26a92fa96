//! The SPIFFE Workload API, spoken by a server that implements its protocol over a Unix socket.
//! Must not use the messages of the crate: the field numbers here are those of the specification.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use valkyrie::bootstrap::{self, BootstrapError, Renewals, WorkloadApi};
use valkyrie::endpoint::Peer;

use crate::stage::*;

#[derive(Clone, PartialEq, prost::Message)]
struct SvidRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct SvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<Svid>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    hint: String,
}

/// What the agent says: a status, an identity, or `Aborted` to end the streams.
type Said = Result<SvidResponse, Status>;

#[derive(Clone)]
struct Agent(watch::Receiver<Said>);

impl NamedService for Agent {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

impl Service<http::Request<Body>> for Agent {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
        let agent = self.clone();
        Box::pin(async move {
            let codec: ProstCodec<SvidResponse, SvidRequest> = ProstCodec::default();
            Ok(Grpc::new(codec).server_streaming(agent, request).await)
        })
    }
}

impl ServerStreamingService<SvidRequest> for Agent {
    type Response = SvidResponse;
    type ResponseStream = Pin<Box<dyn futures::Stream<Item = Said> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<SvidRequest>) -> Self::Future {
        let header = request.metadata().get("workload.spiffe.io").cloned();
        let said = WatchStream::new(self.0.clone());
        Box::pin(async move {
            if header.is_none_or(|header| header != "true") {
                return Err(Status::invalid_argument("security header missing"));
            }
            let ends = |said: &Said| {
                let end = matches!(said, Err(status) if status.code() == tonic::Code::Aborted);
                futures::future::ready(!end)
            };
            let stream: Self::ResponseStream = Box::pin(said.take_while(ends));
            Ok(Response::new(stream))
        })
    }
}

struct Spire {
    say: watch::Sender<Said>,
    address: String,
    _folder: tempfile::TempDir,
}

impl Spire {
    fn say(&self, said: Said) {
        drop(self.say.send_replace(said));
    }
}

fn spire(first: Said) -> Spire {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (say, said) = watch::channel(first);
    let server = tonic::transport::Server::builder().add_service(Agent(said));
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    Spire {
        say,
        address: format!("unix://{}", path.display()),
        _folder: folder,
    }
}

fn svid(stage: &Stage, path: &str) -> SvidResponse {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default();
    let csr = csr.serialize_request(&key).unwrap();
    let (id, now) = (stage.id(path), stage.clock.now());
    let chain = stage.authority.issue(csr.der(), &id, &[], now, HOUR);
    let svid = Svid {
        spiffe_id: id.to_string(),
        x509_svid: chain.unwrap()[0].to_vec(),
        x509_svid_key: key.serialize_der(),
        bundle: root(stage),
        hint: "internal".to_owned(),
    };
    SvidResponse { svids: vec![svid] }
}

fn root(stage: &Stage) -> Vec<u8> {
    use base64::Engine as _;
    let pem = stage.authority.root_pem();
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .unwrap()
}

#[tokio::test]
async fn an_identity_is_pushed_and_pushed_anew_and_no_stream_breaks() {
    let stage = Stage::new().await;
    let spire = spire(Ok(svid(&stage, "ns/a/app/1")));
    let source = Arc::new(WorkloadApi::new(spire.address.clone()).unwrap());
    let store = bootstrap::first(&*source, MINUTE).await.unwrap();
    let session = stage.dial(&store).await;
    assert_eq!(stage.last(), Peer::Spiffe(stage.id("ns/a/app/1")));
    let mut stream = Stream::open(&session).await;
    let renewals = Arc::new(Renewals::default());
    let keeping = tokio::spawn({
        let (source, store, renewals) = (source.clone(), store.clone(), renewals.clone());
        async move { bootstrap::keep_fresh(&*source, &store, &renewals).await }
    });
    let second = svid(&stage, "ns/a/app/2");
    spire.say(Ok(second.clone()));
    counted("the push", &renewals.renewed, 1).await;
    stream.goes_on().await;
    stage.dial(&store).await;
    assert_eq!(stage.last(), Peer::Spiffe(stage.id("ns/a/app/2")));

    // The agent restarts; then it gives what is known, which is no news.
    spire.say(Err(Status::aborted("restart")));
    counted("the end", &renewals.failed, 1).await;
    spire.say(Ok(second));
    spire.say(Ok(svid(&stage, "ns/a/app/3")));
    counted("the push", &renewals.renewed, 2).await;
    stream.goes_on().await;
    stage.dial(&store).await;
    assert_eq!(stage.last(), Peer::Spiffe(stage.id("ns/a/app/3")));
    assert_eq!(renewals.renewed.value(), 2);
    keeping.abort();
}

#[tokio::test]
async fn an_identity_that_is_registered_later_is_waited_for() {
    let stage = Stage::new().await;
    let spire = spire(Err(Status::permission_denied("no identity issued")));
    let source = WorkloadApi::new(spire.address.clone()).unwrap();
    let (store, ()) = tokio::join!(bootstrap::first(&source, MINUTE), async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        spire.say(Ok(svid(&stage, "ns/a/app/1")));
    });
    let id = store.unwrap().credentials().unwrap().id().clone();
    assert_eq!(id, stage.id("ns/a/app/1"));
}

#[tokio::test]
async fn a_refusal_for_good_and_identities_that_do_not_fit_are_not_taken() {
    let stage = Stage::new().await;
    let mut other_id = svid(&stage, "ns/a/app/1");
    other_id.svids[0].spiffe_id = "spiffe://join.example/ns/a/app/2".to_owned();
    let mut other_key = svid(&stage, "ns/a/app/1");
    other_key.svids[0].x509_svid_key = svid(&stage, "ns/a/app/1").svids[0].x509_svid_key.clone();
    let mut cut = svid(&stage, "ns/a/app/1");
    cut.svids[0].x509_svid.pop();
    let mut rootless = svid(&stage, "ns/a/app/1");
    rootless.svids[0].bundle.clear();
    for bad in [other_id, other_key, cut, rootless, SvidResponse::default()] {
        let spire = spire(Ok(bad));
        let source = WorkloadApi::new(spire.address.clone()).unwrap();
        let error = bootstrap::Bootstrap::first(&source).await.unwrap_err();
        assert!(matches!(error, BootstrapError::Identity(_)), "{error}");
    }
    let spire = spire(Err(Status::invalid_argument("bad request")));
    let source = WorkloadApi::new(spire.address.clone()).unwrap();
    let error = bootstrap::first(&source, MINUTE).await.unwrap_err();
    assert!(error.is_final(), "{error}");
    for address in [
        "/run/spire.sock",
        "tcp://127.0.0.1:1",
        "unix:spire.sock",
        "",
    ] {
        assert!(WorkloadApi::new(address).is_err(), "{address:?}");
    }
}
