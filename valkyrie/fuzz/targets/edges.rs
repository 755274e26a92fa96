//! What comes from outside a session: heads of requests that an adapter passes on, a proxy's answer,
//! and the messages by which a certificate is asked for.
//! Must not need a connection.

use prost::Message;
use valkyrie::bootstrap::{IssueReply, IssueRequest, RenewRequest};

use super::named;

const PEER: &str = "spiffe://fuzz.example/ns/a/agent/1";

/// Whatever a caller writes, the service reads one head, and in it one peer: the one that is proven.
#[cfg(feature = "net")]
pub(crate) fn request_head(input: &[u8]) -> u64 {
    let Some(head) = valkyrie::fuzzing::request_head(input, PEER) else {
        return 0;
    };
    assert!(head.ends_with("\r\n\r\n"), "{head:?}");
    assert_eq!(
        head.find("\r\n\r\n"),
        Some(head.len() - 4),
        "two heads: {head:?}"
    );
    let lines = head.split("\r\n").skip(1);
    let peers = lines.filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("x-valkyrie-peer")
    });
    let peers: Vec<_> = peers.collect();
    assert_eq!(peers, [format!("x-valkyrie-peer: {PEER}")], "{head:?}");
    named((
        head.contains("upgrade: websocket"),
        head.matches("\r\n").count(),
    ))
}

#[cfg(feature = "net")]
pub(crate) fn example_head() -> Vec<u8> {
    b"GET /chat HTTP/1.1\r\nhost: web\r\nX-Valkyrie-Peer: me\r\nupgrade: websocket\r\n\
      connection: Upgrade\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        .to_vec()
}

/// A status has three digits at least when there is one, and is that of the first line.
#[cfg(feature = "tcp")]
pub(crate) fn connect_answer(input: &[u8]) -> u64 {
    let status = valkyrie::fuzzing::connect_status(input);
    if let Some(status) = status {
        let first = input.split(|byte| *byte == b'\r').next().unwrap();
        let text = std::str::from_utf8(first).unwrap();
        assert!(text.starts_with("HTTP/1."), "{text:?}");
        assert!(text.contains(&status.to_string()), "{text:?}");
    }
    named(status.map(|status| status / 100))
}

/// What can be read comes back as it was written.
pub(crate) fn bootstrap(input: &[u8]) -> u64 {
    fn again<M: Message + Default + PartialEq>(input: &[u8]) -> Option<usize> {
        let message = M::decode(input).ok()?;
        let bytes = message.encode_to_vec();
        assert!(M::decode(bytes.as_slice()).is_ok_and(|same| same == message));
        Some(bytes.len())
    }
    named((
        again::<IssueRequest>(input).map(super::size),
        again::<IssueReply>(input).map(super::size),
        again::<RenewRequest>(input).map(super::size),
    ))
}

pub(crate) fn example_bootstrap() -> Vec<u8> {
    let request = IssueRequest {
        token: "a token".into(),
        csr_der: vec![0x30, 3, 1, 2, 3],
    };
    request.encode_to_vec()
}
