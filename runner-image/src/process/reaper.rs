//! Reaps the orphans that a process adopts as PID 1 or as child subreaper.
//! Must never reap a child that tokio waits for: its exit status would be lost.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use nix::sys::prctl;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::State;

/// Makes this process adopt orphans, and starts reaping them.
pub(super) fn start(state: Arc<Mutex<State>>) -> io::Result<JoinHandle<()>> {
    prctl::set_child_subreaper(true)?;
    let mut ended = signal(SignalKind::child())?;
    Ok(tokio::spawn(async move {
        while ended.recv().await.is_some() {
            sweep(&state.lock().waited);
        }
    }))
}

/// Reaps ended children until the next one is tokio's. It hides those behind it only until tokio
/// has taken it, and the caller sweeps again then.
pub(super) fn sweep(waited: &HashSet<i32>) {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        let pid = match waitid(Id::All, peek) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
            Ok(_) | Err(_) => return,
        };
        if waited.contains(&pid.as_raw()) || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            return;
        }
    }
}
