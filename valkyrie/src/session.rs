//! The state machines of a session; each takes the time as a parameter.
//! Must not do I/O, spawn, sleep, read a clock or draw randomness.
//!
//! ```
//! use std::time::Duration;
//! use valkyrie::session::Backoff;
//!
//! let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
//! assert_eq!(backoff.next(0.5, None), Duration::from_millis(25));
//! assert_eq!(backoff.next(0.5, None), Duration::from_millis(50));
//! ```

pub mod age;
pub mod backoff;
pub mod call;
pub mod drain;
pub mod handshake;
pub mod liveness;
pub mod resume;

pub use age::Age;
pub use backoff::Backoff;
pub use call::{Call, CallOptions};
pub use drain::Drain;
pub use handshake::{ClientHandshake, HandshakeError, ServerHandshake, Terms, Welcome};
pub use liveness::{Health, Liveness};
pub use resume::{Secret, Sessions, Ticket};
