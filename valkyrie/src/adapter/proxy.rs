//! The context in front of a plain connection: PROXY protocol, version 2
//! (haproxy.org/download/1.8/doc/proxy-protocol.txt), as HAProxy, Envoy and nginx read it.
//! Must not exceed what fits one packet.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use super::OpenContext;
use crate::endpoint::{Peer, TraceContext};
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
/// The headers of the trace (W3C Trace Context), when there is one.
const TRACEPARENT: u8 = 0xE3;
const TRACESTATE: u8 = 0xE4;

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
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
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
            trace: context.trace.clone(),
        }
    }

    /// The same as lines of a head, each with its end.
    pub(super) fn head_lines(&self) -> String {
        let Self {
            peer,
            class,
            deadline_ms,
            trace: _,
        } = self;
        let mut lines = format!("{HEADERS}peer: {peer}\r\n{HEADERS}class: {class}\r\n");
        if let Some(left) = deadline_ms {
            lines.push_str(&format!("{HEADERS}deadline-ms: {left}\r\n"));
        }
        lines
    }
}

/// A trace as lines of a head, each with its end.
pub(super) fn trace_lines(trace: Option<&TraceContext>) -> String {
    let Some(trace) = trace else {
        return String::new();
    };
    let mut lines = format!("traceparent: {}\r\n", trace.traceparent());
    if !trace.tracestate().is_empty() {
        lines.push_str(&format!("tracestate: {}\r\n", trace.tracestate()));
    }
    lines
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

/// The header in bytes: the values `0xE0` (id), `0xE1` (class), `0xE2` (milliseconds, u64), `0xE3`
/// and `0xE4` (`traceparent` and `tracestate`).
pub fn proxy_header(info: &ProxyInfo) -> Bytes {
    let mut values = BytesMut::new();
    value(&mut values, PEER, info.peer.as_bytes());
    value(&mut values, CLASS, info.class.as_bytes());
    if let Some(left) = info.deadline_ms {
        value(&mut values, DEADLINE, &left.to_be_bytes());
    }
    if let Some(trace) = &info.trace {
        value(&mut values, TRACEPARENT, trace.traceparent().as_bytes());
        if !trace.tracestate().is_empty() {
            value(&mut values, TRACESTATE, trace.tracestate().as_bytes());
        }
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
            trace: None,
        };
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x16".to_vec();
        expected.extend(b"\xE0\x00\x02id\xE1\x00\x03job\xE2\x00\x08\0\0\0\0\0\0\x01\x02");
        assert_eq!(proxy_header(&info), expected);
        let short = ProxyInfo {
            deadline_ms: None,
            ..info
        };
        assert_eq!(proxy_header(&short).len(), expected.len() - 11);
        let trace = TraceContext::new(7, 9, true).unwrap();
        let parent = trace.traceparent();
        let traced = ProxyInfo {
            trace: Some(trace),
            ..short
        };
        let header = proxy_header(&traced);
        let value = [b"\xE3\x00\x37", parent.as_bytes()].concat();
        assert!(header.ends_with(&value), "{header:?}");
    }
}
