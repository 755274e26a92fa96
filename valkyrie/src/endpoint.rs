//! The asynchronous API: servers, dialers, sessions, calls and streams.
//! Must not know what methods mean.

mod conduct;
mod current;
mod dialer;
mod frames;
mod governor;
mod handler;
mod line;
mod notices;
mod outflow;
mod server;
mod session;
mod stream;
mod tenure;

pub use crate::error::{CallError, Code};
pub use crate::limits::Limits;
pub use crate::qos::{Dropped, QosPolicy};
pub use crate::session::CallOptions;
pub use crate::trace::TraceContext;
pub use crate::transport::MemoryHub;
#[cfg(feature = "qlog")]
pub use crate::transport::quic::qlog::Qlog;
pub use crate::wire::{Class, Method, SessionId};
pub use dialer::{Dialer, DialerBuilder, Paths, Target};
pub use handler::{CallContext, Handler};
pub use notices::Notice;
pub use server::{Server, ServerBuilder, StartError};
pub use session::{Link, OpenOptions, Peer, Session, TransportKind};
pub use stream::{Rx, Tx};
