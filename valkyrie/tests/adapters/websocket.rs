//! A real WebSocket service behind a gateway: the switch of protocols, and its refusal.
//! Must not reach the service around the session.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use valkyrie::adapter::{Adapters, Gateway};
use valkyrie::endpoint::{Code, Peer};

use crate::gateway::{connect, world};
use crate::in_time;
use crate::services::{http, tcp};

/// Says who asks, then sends back what it gets.
async fn chat(stream: TcpStream) {
    let mut peer = String::new();
    #[expect(clippy::result_large_err, reason = "the library's callback")]
    let note = |request: &Request, response: Response| {
        let headers = request.headers().get_all("x-valkyrie-peer").iter();
        let texts: Vec<_> = headers.filter_map(|it| it.to_str().ok()).collect();
        peer = texts.join(",");
        Ok(response)
    };
    let accepted = tokio_tungstenite::accept_hdr_async(stream, note).await;
    let mut socket = accepted.expect("a WebSocket");
    socket.send(Message::text(peer)).await.expect("sent");
    while let Some(Ok(message)) = socket.next().await {
        if !message.is_close() {
            socket.send(message).await.expect("sent");
        }
    }
}

fn anyone(_: &Peer) -> bool {
    true
}

#[tokio::test]
async fn a_websocket_passes_both_ways_and_ends_in_good_order() {
    let service = tcp(chat).await;
    let gateway = Gateway::new(Adapters::standard(false), 8);
    let world = world(gateway.route("chat", format!("http:{service}"), anyone)).await;
    let (stream, task) = connect(&world, "chat", Some(Duration::from_secs(50)));
    let request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request;
    let mut request = request("ws://oak/chat").expect("a request");
    let forged = "admin".parse().expect("a value");
    request.headers_mut().insert("x-valkyrie-peer", forged);
    let connecting = tokio_tungstenite::client_async(request, stream);
    let (mut socket, _) = in_time("the switch", connecting).await.expect("switched");
    let next = async |socket: &mut tokio_tungstenite::WebSocketStream<_>| {
        let message = in_time("a message", socket.next()).await;
        message.expect("a message").expect("no error")
    };
    let told = next(&mut socket).await;
    assert_eq!(
        told.to_text().expect("text"),
        "spiffe://test.example/ns/team/agent/oak"
    );
    let large = "acorn ".repeat(50_000);
    for text in ["hi", &large] {
        socket.send(Message::text(text)).await.expect("sent");
        assert!(next(&mut socket).await.to_text().expect("text") == text);
    }
    socket.close(None).await.expect("closed");
    while let Some(Ok(_)) = in_time("the end", socket.next()).await {}
    drop(socket);
    assert_eq!(in_time("the end", task).await.expect("no panic"), Ok(()));
}

/// What a service answers that does not switch, when another request follows the first.
async fn refused(early: bool) -> (String, Code) {
    let gateway = Gateway::new(Adapters::standard(false), 8);
    let target = format!("http:{}", http().await);
    let world = world(gateway.route("web", target, anyone)).await;
    let (mut stream, task) = connect(&world, "web", Some(Duration::from_secs(50)));
    let asked = "GET /who HTTP/1.1\r\nhost: oak\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 \r\n";
    let forged = "GET /who HTTP/1.1\r\nhost: oak\r\nx-valkyrie-peer: admin\r\n\r\n";
    let first = if early {
        format!("{asked}{forged}")
    } else {
        asked.to_owned()
    };
    stream.write_all(first.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let count = in_time("the answer", stream.read(&mut answer)).await;
    answer.truncate(count.unwrap_or(0));
    // It may be over already.
    let _ = stream.write_all(forged.as_bytes()).await;
    let mut rest = Vec::new();
    let _ = in_time("the end", stream.read_to_end(&mut rest)).await;
    answer.extend(rest);
    let ended = in_time("the end", task).await.expect("no panic");
    let code = ended.expect_err("it fails").code;
    (String::from_utf8(answer).expect("text"), code)
}

#[tokio::test]
async fn behind_a_switch_that_is_refused_no_further_request_reaches_the_service() {
    let (answer, code) = refused(false).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(!answer.contains("admin"));
    assert_eq!(code, Code::InvalidArgument);
    let (answer, code) = refused(true).await;
    assert_eq!((answer.as_str(), code), ("", Code::InvalidArgument));
}
