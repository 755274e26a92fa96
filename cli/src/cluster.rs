//! The commands that work on runs in a cluster.
//! Must not run jobs: the operator does.

mod cancel;
mod connect;
mod explain;
mod get;
mod logs;
mod start;
mod stream;
mod watch;

pub use cancel::cancel;
pub use explain::explain;
pub use get::get;
pub use logs::logs;
pub use start::start;
