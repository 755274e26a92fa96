//! Bytes of the protocol.
//! Must not do I/O nor keep state.

pub mod value;

pub use value::{Class, Method, SessionId};
