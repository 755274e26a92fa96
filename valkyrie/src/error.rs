//! What a call can fail with: the code, whether to try again, and a word for people.
//! Must not know how an error travels: `wire` encodes it.
//!
//! ```
//! use std::time::Duration;
//! use valkyrie::error::{CallError, Code};
//!
//! let busy = CallError::new(Code::ResourceExhausted, "too many jobs");
//! assert!(!busy.retryable, "the same request would fail again");
//! let busy = busy.retry_after(Duration::from_secs(2));
//! assert!(busy.retryable && busy.retry_after == Some(Duration::from_secs(2)));
//! assert_eq!(busy.to_string(), "resource exhausted: too many jobs");
//! assert_eq!(Code::from_number(99), Code::Unknown(99), "a newer peer's code is kept");
//! ```

use std::time::Duration;

/// Why a call or a stream failed; the numbers are the wire's and never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// 1: the caller went away or gave up.
    Cancelled,
    /// 2: the request itself is wrong; the same request fails again.
    InvalidArgument,
    /// 3: the deadline passed before the reply came.
    DeadlineExceeded,
    /// 4: what the request names does not exist.
    NotFound,
    /// 5: the peer is known and may not do this.
    PermissionDenied,
    /// 6: the peer has not shown who it is.
    Unauthenticated,
    /// 7: the state of the receiver does not allow this (an old fence, a finished job).
    FailedPrecondition,
    /// 8: a limit or quota is used up.
    ResourceExhausted,
    /// 9: the receiver does not know the method.
    Unimplemented,
    /// 10: the peer cannot be reached or is not ready.
    Unavailable,
    /// 11: a defect or a broken invariant on the receiver's side.
    Internal,
    /// Any other number, from a newer peer.
    Unknown(u32),
}

impl Code {
    /// Every code that has a meaning here, for tests and tools.
    pub const KNOWN: [Code; 11] = [
        Code::Cancelled,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::FailedPrecondition,
        Code::ResourceExhausted,
        Code::Unimplemented,
        Code::Unavailable,
        Code::Internal,
    ];

    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Code::Cancelled => 1,
            Code::InvalidArgument => 2,
            Code::DeadlineExceeded => 3,
            Code::NotFound => 4,
            Code::PermissionDenied => 5,
            Code::Unauthenticated => 6,
            Code::FailedPrecondition => 7,
            Code::ResourceExhausted => 8,
            Code::Unimplemented => 9,
            Code::Unavailable => 10,
            Code::Internal => 11,
            Code::Unknown(number) => number,
        }
    }

    /// The code of a number from the wire; never fails.
    pub fn from_number(number: u32) -> Self {
        let known = Self::KNOWN
            .into_iter()
            .find(|known| known.number() == number);
        known.unwrap_or(Code::Unknown(number))
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = match self {
            Code::Cancelled => "cancelled",
            Code::InvalidArgument => "invalid argument",
            Code::DeadlineExceeded => "deadline exceeded",
            Code::NotFound => "not found",
            Code::PermissionDenied => "permission denied",
            Code::Unauthenticated => "unauthenticated",
            Code::FailedPrecondition => "failed precondition",
            Code::ResourceExhausted => "resource exhausted",
            Code::Unimplemented => "unimplemented",
            Code::Unavailable => "unavailable",
            Code::Internal => "internal error",
            Code::Unknown(number) => return write!(f, "unknown error {number}"),
        };
        f.write_str(words)
    }
}

/// A failed call or stream, as both sides see it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct CallError {
    /// What kind of failure.
    pub code: Code,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// How long to wait before the next try, when the peer said so.
    pub retry_after: Option<Duration>,
    /// One plain sentence for people; never a secret.
    pub detail: String,
}

impl CallError {
    /// A failure that is not retryable.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            retryable: false,
            retry_after: None,
            detail: detail.into(),
        }
    }

    /// The same failure, marked as worth another try.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The same failure, retryable after this time.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retryable = true;
        self.retry_after = Some(wait);
        self
    }

    /// The peer cannot be reached now; worth another try.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, detail).retryable()
    }
}
