//! What becomes of bytes when packets of TCP are lost on a long way.
//! Must not pass where nothing was lost.

use bytes::Bytes;
use valkyrie::endpoint::{Class, Limits, TransportKind};

use crate::lab;
use crate::service::*;
use crate::world::*;

#[tokio::test]
async fn lost_packets_lose_no_byte_and_double_none_on_any_transport() {
    if lab::is_missing() {
        return;
    }
    for kind in [
        TransportKind::Tcp,
        TransportKind::WebSocket,
        TransportKind::Quic,
    ] {
        let world = World::new(Stage::lossy(kind), Limits::default()).await;
        let session = world.dial("ns/a/agent/1").await;
        assert_eq!(session.transport(), kind);
        let (mut tx, mut rx) = session
            .open(ECHO_STREAM, Bytes::new(), Class::Log)
            .await
            .unwrap();
        rx.recv().await.unwrap();
        let message = |number: u32| {
            let bytes = number.to_be_bytes().into_iter().cycle();
            Bytes::from_iter(bytes.take(1500))
        };
        let count = 400;
        let sending = async {
            for number in 0..count {
                tx.send(message(number)).await.unwrap();
            }
            tx.finish().await.unwrap();
        };
        let reading = async {
            for number in 0..count {
                let got = rx.recv().await.unwrap();
                assert!(got == Some(message(number)), "message {number}");
            }
            assert_eq!(rx.recv().await.unwrap(), None);
        };
        in_time("the echo", async { tokio::join!(sending, reading) }).await;
        // 1.2 MB in both directions are some 900 packets and what acknowledges them.
        assert!(world.lost() > 0, "{kind:?}: nothing was lost");
    }
}
