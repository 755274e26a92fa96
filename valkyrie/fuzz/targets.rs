//! What is fed with hostile bytes, and what must hold whatever they are.
//! Must not panic but for a broken promise; each returns a number that names the outcome.

mod edges;
mod machines;
#[cfg(feature = "capability")]
mod token;
mod wire;

use std::hash::{DefaultHasher, Hash, Hasher};

/// Something that takes bytes.
pub(crate) struct Target {
    /// Its name, and that of its folder in the corpus.
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]) -> u64,
    /// One input that goes deep.
    pub(crate) example: fn() -> Vec<u8>,
    /// Inputs tried by the normal tests.
    pub(crate) short_run: u32,
}

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "frames",
        run: wire::frames,
        example: wire::example_frames,
        short_run: 4000,
    },
    Target {
        name: "hello",
        run: wire::hello,
        example: wire::example_hello,
        short_run: 4000,
    },
    Target {
        name: "messages",
        run: wire::messages,
        example: wire::example_message,
        short_run: 4000,
    },
    #[cfg(feature = "net")]
    Target {
        name: "request-head",
        run: edges::request_head,
        example: edges::example_head,
        short_run: 4000,
    },
    #[cfg(feature = "tcp")]
    Target {
        name: "connect-answer",
        run: edges::connect_answer,
        example: || b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec(),
        short_run: 4000,
    },
    Target {
        name: "bootstrap",
        run: edges::bootstrap,
        example: edges::example_bootstrap,
        short_run: 4000,
    },
    Target {
        name: "identity",
        run: wire::identity,
        example: || b"spiffe://cluster.local/ns/team-a/agent/4f1c".to_vec(),
        short_run: 4000,
    },
    Target {
        name: "session",
        run: machines::session,
        example: || (0..200).collect(),
        short_run: 150,
    },
    Target {
        name: "resume",
        run: machines::resume,
        example: || (0..=255).collect(),
        short_run: 2000,
    },
    Target {
        name: "buckets",
        run: machines::buckets,
        example: || (0..64).collect(),
        short_run: 2000,
    },
    Target {
        name: "append",
        run: machines::append,
        example: || (0..=255).rev().collect(),
        short_run: 2000,
    },
    #[cfg(feature = "tcp")]
    Target {
        name: "mux",
        run: valkyrie::fuzzing::mux,
        example: machines::example_mux,
        short_run: 400,
    },
    #[cfg(feature = "capability")]
    Target {
        name: "token",
        run: token::token,
        example: token::example,
        short_run: 500,
    },
    #[cfg(feature = "identity")]
    Target {
        name: "request",
        run: wire::request,
        example: wire::example_request,
        short_run: 100,
    },
];

/// Names an outcome.
fn named(outcome: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    outcome.hash(&mut hasher);
    hasher.finish()
}

/// The size of a number, as a part of an outcome.
fn size(number: usize) -> u32 {
    usize::BITS - number.leading_zeros()
}
