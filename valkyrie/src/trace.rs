//! The trace that a call belongs to, as W3C Trace Context (level 1) names it.
//! Must not make spans nor send them anywhere: it reads, checks and hands on.
//!
//! ```
//! use valkyrie::trace::TraceContext;
//!
//! let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
//! let asked = TraceContext::parse(header, "vendor=1").expect("both are well-formed");
//! let onward = asked.child(0x2a).expect("an id that is not zero");
//! let sent = "00-0af7651916cd43dd8448eb211c80319c-000000000000002a-01";
//! assert_eq!((&*onward.traceparent(), onward.tracestate()), (sent, "vendor=1"));
//! assert_eq!(TraceContext::parse("garbage", ""), None);
//! ```

use std::sync::Arc;

/// Longest `tracestate` that is handed on, in bytes (section 3.3.1.5 asks for 512 at least).
pub const MAX_STATE: usize = 512;
/// Most members of a `tracestate` (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// Length of a `traceparent` of version 00.
const PARENT: usize = 55;

/// Which trace and which part of it asks; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// A context without a state; none when an id is zero, which the standard forbids.
    pub fn new(trace_id: u128, parent_id: u64, sampled: bool) -> Option<Self> {
        (trace_id != 0 && parent_id != 0).then_some(Self {
            trace_id,
            parent_id,
            flags: u8::from(sampled),
            state: None,
        })
    }

    /// Reads both headers. A malformed `traceparent` is no context; a malformed `tracestate` is
    /// left out (sections 3.2.2 and 3.3.1).
    pub fn parse(traceparent: &str, tracestate: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        let version = hex(bytes.get(..2)?)?;
        let longer = match (version, bytes.len()) {
            (0xff, _) => return None,
            (0, PARENT) => false,
            (0, _) => return None,
            // What later versions add follows a dash.
            (_, length) => length > PARENT,
        };
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        if !dashes || (longer && bytes[PARENT] != b'-') {
            return None;
        }
        let trace_id = hex(bytes.get(3..35)?)?;
        let parent_id = u64::try_from(hex(bytes.get(36..52)?)?).ok()?;
        let flags = u8::try_from(hex(bytes.get(53..PARENT)?)?).ok()?;
        let context = Self::new(trace_id, parent_id, false)?;
        Some(Self {
            // Of the flags only "sampled" is defined.
            flags: flags & 1,
            state: is_state(tracestate).then(|| tracestate.into()),
            ..context
        })
    }

    /// The same trace, asked on by another part of it.
    #[must_use]
    pub fn child(&self, parent_id: u64) -> Option<Self> {
        (parent_id != 0).then(|| Self {
            parent_id,
            ..self.clone()
        })
    }

    /// The trace.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The part of it that asks.
    pub fn parent_id(&self) -> u64 {
        self.parent_id
    }

    /// Whether the caller may have recorded it.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The header `traceparent`, version 00.
    pub fn traceparent(&self) -> String {
        let Self {
            trace_id,
            parent_id,
            flags,
            ..
        } = self;
        format!("00-{trace_id:032x}-{parent_id:016x}-{flags:02x}")
    }

    /// The header `tracestate`; empty when there is none.
    pub fn tracestate(&self) -> &str {
        self.state.as_deref().unwrap_or_default()
    }
}

/// A number in lower-case hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Whether a `tracestate` is one, and not empty.
fn is_state(state: &str) -> bool {
    if state.len() > MAX_STATE || state.split(',').count() > MAX_MEMBERS {
        return false;
    }
    let mut keys = std::collections::HashSet::new();
    let mut members = state
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']));
    let sound = members.all(|member| {
        member.is_empty()
            || member
                .split_once('=')
                .is_some_and(|(key, value)| is_key(key) && is_value(value) && keys.insert(key))
    });
    sound && !keys.is_empty()
}

/// `key` of section 3.3.1.3.1: a name, or a tenant and a system with `@` between them.
fn is_key(key: &str) -> bool {
    let part = |part: &str, most: usize, digit_first: bool| {
        let inner = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
        let first = |c: u8| c.is_ascii_lowercase() || (digit_first && c.is_ascii_digit());
        let bytes = part.as_bytes();
        (1..=most).contains(&bytes.len()) && first(bytes[0]) && bytes.iter().all(|c| inner(*c))
    };
    match key.split_once('@') {
        Some((tenant, system)) => part(tenant, 241, true) && part(system, 14, false),
        None => part(key, 256, false),
    }
}

/// `value` of section 3.3.1.3.2: printable, without comma and equals sign, no blank at the end.
fn is_value(value: &str) -> bool {
    let printable = |c: u8| (0x20..=0x7e).contains(&c) && c != b',' && c != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(printable) && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_written_as_it_is() {
        let state = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7,a1@vendor=x y";
        let context = TraceContext::parse(PARENT, state).unwrap();
        assert_eq!(
            context.trace_id(),
            0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c
        );
        assert_eq!(context.parent_id(), 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled());
        assert_eq!(
            (context.traceparent().as_str(), context.tracestate()),
            (PARENT, state)
        );
        let child = context.child(7).unwrap();
        assert_eq!(
            child.traceparent(),
            PARENT.replace("b7ad6b7169203331", "0000000000000007")
        );
        assert_eq!((child.tracestate(), context.child(0)), (state, None));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = PARENT.replacen("00-", "cc-", 1);
        let read = |text: &str| TraceContext::parse(text, "").map(|c| c.traceparent());
        assert_eq!(read(&later).as_deref(), Some(PARENT));
        assert_eq!(read(&format!("{later}-more")).as_deref(), Some(PARENT));
        assert_eq!(read(&format!("{later}more")), None);
        let flags = PARENT.replace("-01", "-ff");
        assert_eq!(
            read(&flags).as_deref(),
            Some(PARENT),
            "unknown flags are not handed on"
        );
    }

    #[test]
    fn what_is_malformed_is_no_context() {
        let zero_trace = PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        let zero_parent = PARENT.replace("b7ad6b7169203331", &"0".repeat(16));
        let bad = [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &PARENT.to_uppercase(),
            &PARENT.replacen("00-", "ff-", 1),
            &PARENT.replacen('-', "_", 1),
            &PARENT.replace("af7", "xf7"),
            &zero_trace,
            &zero_parent,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-1",
        ];
        for text in bad {
            assert_eq!(TraceContext::parse(text, ""), None, "{text:?}");
        }
    }

    #[test]
    fn a_malformed_state_is_left_out_and_the_parent_kept() {
        let long = format!("a={}", "x".repeat(257));
        let many = (0..33)
            .map(|n| format!("k{n}=v"))
            .collect::<Vec<_>>()
            .join(",");
        for state in [
            "", ",", "a", "a=", "A=1", "a=1,a=2", "1a=1", "a=b=c", "a@B=1", &long, &many,
        ] {
            let context = TraceContext::parse(PARENT, state).unwrap();
            assert_eq!(context.tracestate(), "", "{state:?}");
        }
        assert_eq!(
            TraceContext::parse(PARENT, "a=1, ,b=2")
                .unwrap()
                .tracestate(),
            "a=1, ,b=2"
        );
    }

    proptest! {
        #[test]
        fn no_text_whatever_panics_and_what_is_read_is_written_alike(
            parent in "(00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]|[0-9a-f-]{50,60}|.{0,60})",
            state in "([a-z]{1,3}=[a-z]{1,3},?){0,4}|.{0,20}",
        ) {
            if let Some(context) = TraceContext::parse(&parent, &state) {
                let again = TraceContext::parse(&context.traceparent(), context.tracestate());
                prop_assert_eq!(again, Some(context));
            }
        }
    }
}
