//! The context in front of a plain connection: PROXY protocol, version 2
//! (haproxy.org/download/1.8/doc/proxy-protocol.txt), as HAProxy, Envoy and nginx read it.
//! Must not exceed what fits one packet.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use super::OpenContext;
use crate::endpoint::Peer;
use crate::wire::Class;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// No addresses: the caller has none that would mean something here.
const UNSPEC: u8 = 0;
/// Types of application-specific values: the caller's id, the class's name, milliseconds left.
const PEER: u8 = 0xE0;
const CLASS: u8 = 0xE1;
const DEADLINE: u8 = 0xE2;

/// Names of the headers begin so where the service reads heads of text.
pub(super) const HEADERS: &str = "x-valkyrie-";

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyInfo {
    /// The caller's SPIFFE id, or nothing for one without a certificate.
    pub peer: String,
    /// The class's name.
    pub class: &'static str,
    /// Milliseconds left, when there is a deadline.
    pub deadline_ms: Option<u64>,
}

impl ProxyInfo {
    /// What a context says at this moment.
    pub fn new(context: &OpenContext, now: Instant) -> Self {
        let left = |deadline: Instant| {
            let left = deadline.saturating_duration_since(now).as_millis();
            u64::try_from(left).unwrap_or(u64::MAX)
        };
        Self {
            peer: match &context.peer {
                Peer::Anonymous => String::new(),
                Peer::Spiffe(id) => id.to_string(),
            },
            class: class_name(context.class),
            deadline_ms: context.deadline.map(left),
        }
    }

    /// The same as lines of a head, each with its end.
    pub(super) fn head_lines(&self) -> String {
        let Self {
            peer,
            class,
            deadline_ms,
        } = self;
        let mut lines = format!("{HEADERS}peer: {peer}\r\n{HEADERS}class: {class}\r\n");
        if let Some(left) = deadline_ms {
            lines.push_str(&format!("{HEADERS}deadline-ms: {left}\r\n"));
        }
        lines
    }
}

/// A class in a word.
fn class_name(class: Class) -> &'static str {
    match class {
        Class::Control => "control",
        Class::Job => "job",
        Class::Log => "log",
        Class::Bulk => "bulk",
    }
}

/// The header in bytes: the values `0xE0` (id), `0xE1` (class) and `0xE2` (milliseconds, u64).
pub fn proxy_header(info: &ProxyInfo) -> Bytes {
    let mut values = BytesMut::new();
    value(&mut values, PEER, info.peer.as_bytes());
    value(&mut values, CLASS, info.class.as_bytes());
    if let Some(left) = info.deadline_ms {
        value(&mut values, DEADLINE, &left.to_be_bytes());
    }
    let mut header = BytesMut::new();
    header.put_slice(SIGNATURE);
    header.put_slice(&[PROXY, UNSPEC]);
    header.put_u16(u16::try_from(values.len()).expect("an id has at most 2048 bytes"));
    header.put_slice(&values);
    header.freeze()
}

fn value(out: &mut BytesMut, kind: u8, bytes: &[u8]) {
    out.put_u8(kind);
    out.put_u16(u16::try_from(bytes.len()).expect("an id has at most 2048 bytes"));
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_bytes_of_the_specification() {
        let info = ProxyInfo {
            peer: "id".into(),
            class: "job",
            deadline_ms: Some(258),
        };
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x16".to_vec();
        expected.extend(b"\xE0\x00\x02id\xE1\x00\x03job\xE2\x00\x08\0\0\0\0\0\0\x01\x02");
        assert_eq!(proxy_header(&info), expected);
        let short = ProxyInfo {
            deadline_ms: None,
            ..info
        };
        assert_eq!(proxy_header(&short).len(), expected.len() - 11);
    }
}
