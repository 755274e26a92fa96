//! A real gRPC service behind a gateway: the standard health service, unary and streaming.
//! Must not reach the service around the session.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;
use valkyrie::adapter::{Adapters, Gateway, forward};
use valkyrie::endpoint::{Class, Peer, Session};

use crate::gateway::{FORWARD, world};
use crate::in_time;

/// The health service on a port of its own, and what decides its answers.
async fn service() -> (SocketAddr, HealthReporter) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (reporter, health) = tonic_health::server::health_reporter();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = Server::builder()
        .add_service(health)
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    (address, reporter)
}

/// A local port whose connections are forwarded through the session.
async fn local_port(session: Session) -> SocketAddr {
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
                    None,
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
    let (address, reporter) = service().await;
    reporter
        .set_service_status("oak", ServingStatus::Serving)
        .await;
    let gateway = Gateway::new(Adapters::standard(false), 8);
    let anyone = |_: &Peer| true;
    let world = world(gateway.route("health", format!("grpc:{address}"), anyone)).await;
    let mut client = client(local_port(world.session.clone()).await).await;

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
