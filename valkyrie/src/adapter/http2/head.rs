//! A request's headers as the service gets them.
//! Must not let a caller speak for another, nor lengthen the time that its gateway allows.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, request};

use super::super::proxy::{HEADERS, ProxyInfo};

/// How long a caller of gRPC waits: up to eight digits and a unit
/// (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The most that eight digits tell.
const MOST: u64 = 99_999_999;

/// Takes out what claims to be the context, and puts it in.
pub(super) fn rewrite(parts: &mut request::Parts, info: &ProxyInfo) {
    let headers = &mut parts.headers;
    strip(headers);
    put(headers, "x-valkyrie-peer", &info.peer);
    put(headers, "x-valkyrie-class", info.class);
    if let Some(left) = info.deadline_ms {
        put(headers, "x-valkyrie-deadline-ms", &left.to_string());
        if is_grpc(headers) {
            shorten(headers, left);
        }
    }
    // What the request itself says is nearer to who asks.
    if let Some(trace) = &info.trace
        && !headers.contains_key("traceparent")
    {
        headers.remove("tracestate");
        put(headers, "traceparent", &trace.traceparent());
        if !trace.tracestate().is_empty() {
            put(headers, "tracestate", trace.tracestate());
        }
    }
}

/// Takes out every header that only the gateway may set.
pub(super) fn strip(headers: &mut HeaderMap) {
    let ours = |name: &&HeaderName| name.as_str().starts_with(HEADERS);
    let claimed: Vec<_> = headers.keys().filter(ours).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Ids, classes, numbers and traces have visible ASCII alone.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

/// No request may take longer than what is left of the whole.
fn shorten(headers: &mut HeaderMap, left_ms: u64) {
    let left = Duration::from_millis(left_ms);
    let own = headers.get(GRPC_TIMEOUT);
    if own.and_then(timeout).is_some_and(|own| own <= left) {
        return;
    }
    let text = match left_ms {
        0..=MOST => format!("{left_ms}m"),
        _ => format!("{}S", (left_ms / 1000).min(MOST)),
    };
    put(headers, GRPC_TIMEOUT, &text);
}

/// What a caller's `grpc-timeout` says; none for one that cannot be read.
fn timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::endpoint::TraceContext;

    const PEER: &str = "spiffe://test.example/ns/team/agent/a";

    fn info(deadline_ms: Option<u64>) -> ProxyInfo {
        ProxyInfo {
            peer: PEER.into(),
            class: "job",
            deadline_ms,
            trace: None,
        }
    }

    /// The headers that arrive, as lines in the order of their names.
    fn arrives(headers: &[(&str, &str)], info: &ProxyInfo) -> Vec<String> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        rewrite(&mut parts, info);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = parts.headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    fn context(more: &[&str]) -> Vec<String> {
        let peer = format!("x-valkyrie-peer: {PEER}");
        let mut lines = vec!["x-valkyrie-class: job".to_owned(), peer];
        lines.extend(more.iter().map(|it| (*it).to_owned()));
        lines.sort();
        lines
    }

    #[test]
    fn a_request_gets_the_context_and_loses_what_claims_to_be_it() {
        let claims = [
            ("x-valkyrie-peer", "admin"),
            ("x-valkyrie-peer", "root"),
            ("x-valkyrie-class", "control"),
            ("x-valkyrie-deadline-ms", "1"),
            ("x-valkyrie-of-tomorrow", "yes"),
            ("accept", "*/*"),
        ];
        assert_eq!(arrives(&claims, &info(None)), context(&["accept: */*"]));
        let timed = ["x-valkyrie-deadline-ms: 1500"];
        assert_eq!(arrives(&[], &info(Some(1500))), context(&timed));
    }

    #[test]
    fn a_grpc_request_may_take_what_is_left_and_no_longer() {
        let grpc = ("content-type", "application/grpc+proto");
        let arriving = |own: Option<&str>, left: Option<u64>| {
            let own = own.map(|own| ("grpc-timeout", own));
            let headers: Vec<_> = [Some(grpc), own].into_iter().flatten().collect();
            let lines = arrives(&headers, &info(left));
            let timeout = lines
                .iter()
                .find_map(|it| it.strip_prefix("grpc-timeout: "));
            timeout.map(str::to_owned)
        };
        for (own, left, expected) in [
            (None, None, None),
            (Some("7S"), None, Some("7S")),
            (None, Some(1500), Some("1500m")),
            (Some("1S"), Some(1500), Some("1S")),
            (Some("1500000u"), Some(1500), Some("1500000u")),
            (Some("99999999n"), Some(1500), Some("99999999n")),
            (Some("2S"), Some(1500), Some("1500m")),
            (Some("1M"), Some(1500), Some("1500m")),
            (Some("99999999H"), Some(1500), Some("1500m")),
            // What nobody can read would be no limit at all.
            (Some("1"), Some(1500), Some("1500m")),
            (Some("S"), Some(1500), Some("1500m")),
            (Some("+1S"), Some(1500), Some("1500m")),
            (Some("123456789m"), Some(1500), Some("1500m")),
            (Some("1s"), Some(1500), Some("1500m")),
            (None, Some(0), Some("0m")),
            (None, Some(100_000_000), Some("100000S")),
            (None, Some(u64::MAX), Some("99999999S")),
        ] {
            assert_eq!(arriving(own, left).as_deref(), expected, "{own:?} {left:?}");
        }
        let plain = arrives(&[("grpc-timeout", "2S")], &info(Some(1500)));
        assert!(plain.contains(&"grpc-timeout: 2S".to_owned()), "{plain:?}");
    }

    #[test]
    fn a_trace_is_added_where_the_request_names_none() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let traced = ProxyInfo {
            trace: TraceContext::parse(parent, "a=1"),
            ..info(None)
        };
        let added = arrives(&[("tracestate", "stray=1")], &traced);
        let expected = ["tracestate: a=1", &format!("traceparent: {parent}")];
        assert_eq!(added, context(&expected));
        let own = arrives(&[("traceparent", "00-1"), ("tracestate", "b=2")], &traced);
        assert_eq!(own, context(&["traceparent: 00-1", "tracestate: b=2"]));
    }
}
