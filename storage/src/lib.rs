//! Where logs are kept: bytes at exact offsets, acknowledged when they survive a crash.
//! Must not know who may write what: the hub checks that first.

mod follow;
mod fs;
mod key;
mod logs;

pub use follow::{Follow, follow};
pub use fs::FsLogs;
pub use key::LogKey;
pub use logs::{LogError, LogStatus, Logs, Result};
