//! A request's head as the service gets it.
//! Must not pass a head that two readers could read in two ways.

use std::io;

use super::super::proxy::{HEADERS, ProxyInfo, trace_lines};
use super::invalid;

/// The protocol that a request may switch to. Others would let a caller send further heads behind
/// the first, as `h2c` does, and speak for others in them.
const SWITCH_TO: &str = "websocket";

/// A changed head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its bytes, with the empty line.
    pub(super) text: String,
    /// It asks the service to switch to WebSocket.
    pub(super) switches: bool,
}

/// What was seen of the request's own framing.
#[derive(Default)]
struct Framing {
    length: bool,
    encoding: bool,
    connection_upgrade: bool,
    to_websocket: bool,
    traced: bool,
}

/// The head with the context, and with the end of the connection behind its one answer.
pub(super) fn rewrite(head: &[u8], info: &ProxyInfo) -> io::Result<Head> {
    let head = std::str::from_utf8(head).map_err(|_| invalid("the head is not text"))?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    if !first.ends_with(" HTTP/1.1") || first.split(' ').count() != 3 || has_control(first) {
        return Err(invalid("this is no HTTP/1.1 request"));
    }
    let mut text = format!("{first}\r\n");
    let mut framing = Framing::default();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) || has_control(line) {
            return Err(invalid("a header of the request is broken"));
        }
        if framing.takes(&name.to_ascii_lowercase(), value)? {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    let switches = framing.switches(first)?;
    text.push_str(&info.head_lines());
    if !framing.traced {
        // What the request itself says is nearer to who asks.
        text.push_str(&trace_lines(info.trace.as_ref()));
    }
    text.push_str(if switches {
        "connection: upgrade\r\nupgrade: websocket\r\n\r\n"
    } else {
        "connection: close\r\n\r\n"
    });
    Ok(Head { text, switches })
}

impl Framing {
    /// Notes a header; whether it passes.
    fn takes(&mut self, name: &str, value: &str) -> io::Result<bool> {
        match name {
            "content-length" if std::mem::replace(&mut self.length, true) => {
                return Err(invalid("the request has two lengths"));
            }
            "transfer-encoding" => self.encoding = true,
            "traceparent" => self.traced = true,
            "connection" => {
                let mut options = value.split(',').map(str::trim);
                self.connection_upgrade |= options.any(|it| it.eq_ignore_ascii_case("upgrade"));
            }
            "upgrade" => self.to_websocket |= value.trim().eq_ignore_ascii_case(SWITCH_TO),
            _ => {}
        }
        let hop = ["connection", "keep-alive", "proxy-connection", "upgrade"];
        Ok(!name.starts_with(HEADERS) && !hop.contains(&name))
    }

    fn switches(&self, first: &str) -> io::Result<bool> {
        if self.length && self.encoding {
            return Err(invalid("the request has a length and an encoding"));
        }
        let switches = self.connection_upgrade && self.to_websocket;
        if switches && (self.length || self.encoding || !first.starts_with("GET ")) {
            return Err(invalid("a request that switches is a GET without a body"));
        }
        Ok(switches)
    }
}

/// Bytes that some readers take for the end of a line.
fn has_control(line: &str) -> bool {
    line.chars().any(|c| c.is_control() && c != '\t')
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::endpoint::TraceContext;

    fn info() -> ProxyInfo {
        ProxyInfo {
            peer: "spiffe://test.example/ns/team/agent/a".into(),
            class: "job",
            deadline_ms: Some(1500),
            trace: None,
        }
    }

    const CONTEXT: &str = "x-valkyrie-peer: spiffe://test.example/ns/team/agent/a\r\n\
                           x-valkyrie-class: job\r\nx-valkyrie-deadline-ms: 1500\r\n";

    #[test]
    fn a_head_gets_the_context_and_loses_what_claims_to_be_it() {
        let head = "GET /a?b HTTP/1.1\r\nHost: x\r\nX-Valkyrie-Peer: admin\r\n\
                    Connection: keep-alive\r\nAccept: */*";
        let changed = rewrite(head.as_bytes(), &info()).unwrap();
        let first = "GET /a?b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n";
        let text = format!("{first}{CONTEXT}connection: close\r\n\r\n");
        let switches = false;
        assert_eq!(changed, Head { text, switches });
    }

    #[test]
    fn a_trace_is_added_where_the_request_names_none() {
        let trace = TraceContext::parse(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "a=1",
        );
        let info = ProxyInfo { trace, ..info() };
        let traced = |head: &str| rewrite(head.as_bytes(), &info).unwrap().text;
        let added = traced("GET / HTTP/1.1\r\nHost: x");
        let lines = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
                     tracestate: a=1\r\nconnection: close\r\n\r\n";
        assert!(added.ends_with(lines), "{added}");
        let own = traced("GET / HTTP/1.1\r\nHost: x\r\nTraceparent: 00-1");
        assert_eq!(own.matches("raceparent").count(), 1, "{own}");
    }

    #[test]
    fn only_a_switch_to_websocket_passes() {
        let head = |upgrade: &str| {
            let head = format!(
                "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
                 Upgrade: {upgrade}\r\nSec-WebSocket-Version: 13"
            );
            rewrite(head.as_bytes(), &info()).unwrap()
        };
        let first = "GET /chat HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n";
        let switched = "connection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let text = format!("{first}{CONTEXT}{switched}");
        assert_eq!(
            head("WebSocket"),
            Head {
                text,
                switches: true
            }
        );
        for other in ["h2c", "websocket, h2c", "TLS/1.0", ""] {
            let text = format!("{first}{CONTEXT}connection: close\r\n\r\n");
            assert_eq!(
                head(other),
                Head {
                    text,
                    switches: false
                },
                "{other}"
            );
        }
    }

    #[test]
    fn a_head_that_can_be_read_in_two_ways_is_refused() {
        let switch = "Connection: upgrade\r\nUpgrade: websocket";
        let bad = [
            "GET / HTTP/1.0\r\nHost: x",
            "GET  / HTTP/1.1\r\nHost: x",
            "PRI * HTTP/2.0",
            "GET / HTTP/1.1\r\nHost : x",
            "GET / HTTP/1.1\r\n folded: x",
            "GET / HTTP/1.1\r\nA: b\nX-Valkyrie-Peer: admin",
            "GET / HTTP/1.1\r\nA: b\rX-Valkyrie-Peer: admin",
            "GET / HTTP/1.1\r\nno colon",
            "GET / HTTP/1.1\r\n: empty",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 4",
            &format!("POST / HTTP/1.1\r\n{switch}"),
            &format!("GET / HTTP/1.1\r\nContent-Length: 3\r\n{switch}"),
        ];
        for head in bad {
            let refused = rewrite(head.as_bytes(), &info()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidData, "{head:?}");
        }
        assert!(rewrite(b"GET / HTTP/1.1\r\nA: \xff", &info()).is_err());
    }
}
