//! The commands that work on runs in a cluster.
//! Must not run jobs: the operator does.

mod approve;
mod cancel;
mod connect;
mod explain;
mod get;
mod logs;
mod retry;
mod start;
mod stream;
mod watch;

pub use approve::answer;
pub use cancel::cancel;
pub use explain::explain;
pub use get::get;
pub use logs::logs;
pub use retry::retry;
pub use start::start;
