//! A real gRPC service behind a gateway: the standard health service, unary and streaming.
//! Must not reach the service around the session.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;
use valkyrie::adapter::{Adapters, Gateway, forward};
use valkyrie::endpoint::{Class, Peer, Session};

use crate::gateway::{FORWARD, world};
use crate::in_time;

/// What the service was told with each request.
type Told = mpsc::Receiver<MetadataMap>;

/// The health service on a port of its own, what decides its answers, and what it is told.
async fn service() -> (SocketAddr, HealthReporter, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (reporter, health) = tonic_health::server::health_reporter();
    let (tell, told) = mpsc::channel(8);
    let health = InterceptedService::new(health, move |request: Request<()>| {
        tell.try_send(request.metadata().clone())
            .expect("few requests");
        Ok(request)
    });
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = Server::builder()
        .add_service(health)
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    (address, reporter, told)
}

/// A local port whose connections are forwarded through the session.
async fn local_port(session: Session, deadline: Option<Duration>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            let session = session.clone();
            tokio::spawn(async move {
                forward(
                    &session,
                    FORWARD,
                    "health",
                    Class::Job,
                    deadline,
                    &mut connection,
                )
                .await
            });
        }
    });
    address
}

async fn client(address: SocketAddr) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let endpoint = endpoint.connect_timeout(Duration::from_secs(50));
    let connecting = endpoint.connect();
    HealthClient::new(
        in_time("a connection", connecting)
            .await
            .expect("connected"),
    )
}

#[tokio::test]
async fn a_real_grpc_service_answers_calls_and_streams_through_a_session() {
    let (address, reporter, _told) = service().await;
    reporter
        .set_service_status("oak", ServingStatus::Serving)
        .await;
    let gateway = Gateway::new(Adapters::standard(false), 8);
    let anyone = |_: &Peer| true;
    let world = world(gateway.route("health", format!("grpc:{address}"), anyone)).await;
    let mut client = client(local_port(world.session.clone(), None).await).await;

    let oak = HealthCheckRequest {
        service: "oak".into(),
    };
    let answer = in_time("an answer", client.check(oak.clone())).await;
    let status = answer.expect("answered").into_inner().status();
    assert_eq!(status.as_str_name(), "SERVING");
    let elm = HealthCheckRequest {
        service: "elm".into(),
    };
    let unknown = in_time("an error", client.check(elm)).await;
    let unknown = unknown.expect_err("not known");
    assert_eq!(unknown.code(), tonic::Code::NotFound, "trailers pass too");

    let watch = in_time("a stream", client.watch(oak)).await;
    let mut watch = watch.expect("a stream").into_inner();
    for expected in ["SERVING", "NOT_SERVING"] {
        let next = in_time("a message", watch.message()).await;
        let status = next.expect("no error").expect("a message").status();
        assert_eq!(status.as_str_name(), expected);
        reporter
            .set_service_status("oak", ServingStatus::NotServing)
            .await;
    }
}

/// The time that a request was allowed, in the milliseconds that a gateway writes.
fn allowed_ms(told: &MetadataMap) -> Option<u64> {
    let text = told.get("grpc-timeout")?.to_str().ok()?;
    text.strip_suffix('m')?.parse().ok()
}

#[tokio::test]
async fn each_grpc_request_tells_who_asks_and_takes_no_longer_than_the_whole() {
    let (address, _reporter, mut told) = service().await;
    let gateway = Gateway::new(Adapters::standard(false), 8);
    let anyone = |_: &Peer| true;
    let world = world(gateway.route("health", format!("grpc:{address}"), anyone)).await;
    let whole = Duration::from_secs(50);
    let port = local_port(world.session.clone(), Some(whole)).await;
    let mut client = client(port).await;
    let mut ask = async |own: Option<Duration>| {
        let mut request = Request::new(HealthCheckRequest::default());
        let claim = "spiffe://test.example/admin".parse().expect("a value");
        request.metadata_mut().insert("x-valkyrie-peer", claim);
        if let Some(own) = own {
            request.set_timeout(own);
        }
        in_time("an answer", client.check(request))
            .await
            .expect("answered");
        in_time("the request", told.recv()).await.expect("one")
    };
    let seconds = |count| Some(Duration::from_secs(count));
    for (own, expected) in [
        (None, "what is left"),
        (seconds(3000), "what is left"),
        (seconds(7), "its own"),
    ] {
        let told = ask(own).await;
        let values = |name: &str| -> Vec<_> { told.get_all(name).iter().collect() };
        assert_eq!(
            values("x-valkyrie-peer"),
            ["spiffe://test.example/ns/team/agent/oak"]
        );
        assert_eq!(values("x-valkyrie-class"), ["job"]);
        match expected {
            "its own" => assert_eq!(values("grpc-timeout"), ["7000000u"]),
            _ => {
                let left = allowed_ms(&told);
                assert!(
                    left.is_some_and(|left| (1..=50_000).contains(&left)),
                    "{told:?}"
                );
            }
        }
    }
}
