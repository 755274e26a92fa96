//! The asynchronous API: servers, dialers, sessions, calls and streams.
//! Must not know what methods mean.

mod conduct;
mod dialer;
mod frames;
mod governor;
mod handler;
mod line;
mod server;
mod session;
mod stream;
mod tenure;

pub use crate::error::{CallError, Code};
pub use crate::limits::Limits;
pub use crate::session::CallOptions;
pub use crate::transport::MemoryHub;
pub use crate::wire::{Class, Method, SessionId};
pub use dialer::{Dialer, DialerBuilder, Paths, Target};
pub use handler::{CallContext, Handler};
pub use server::{Server, ServerBuilder, StartError};
pub use session::{Link, Peer, Session, TransportKind};
pub use stream::{Rx, Tx};
