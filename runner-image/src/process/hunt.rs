//! Kills a set of processes that may multiply while it is killed.
//! Must not kill a process that is not surely chosen.

use std::collections::HashSet;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::table::{Process, Table};

/// Passes without a victim after which an unclear process is taken for somebody else's.
const QUIET_PASSES: u32 = 3;

/// Whether a process is to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Yes.
    Ours,
    /// No.
    Foreign,
    /// It shows no environment: it is being replaced by exec, is ending, or never had one.
    Unclear,
}

/// A hunt over several passes.
#[derive(Default)]
pub(super) struct Hunt {
    /// What was killed already, by pid and start: it may take a moment to end, and shows no
    /// environment meanwhile.
    killed: HashSet<(i32, u64)>,
    quiet: u32,
}

impl Hunt {
    /// Kills what is chosen and alive; `true` when nothing is left to do.
    pub(super) fn pass(&mut self, choose: impl Fn(&Process, &Table) -> Choice) -> bool {
        let table = Table::read();
        let this = i32::try_from(std::process::id()).expect("Linux process ids fit 31 bits");
        let (mut victims, mut unclear) = (0, false);
        let others = |process: &&Process| !process.zombie && process.pid != this;
        for process in table.iter().filter(others) {
            let identity = (process.pid, process.started);
            match choose(process, &table) {
                Choice::Foreign if !self.killed.contains(&identity) => continue,
                Choice::Unclear if !self.killed.contains(&identity) => {
                    unclear = true;
                    continue;
                }
                _ => {}
            }
            if signal::kill(Pid::from_raw(process.pid), Signal::SIGKILL).is_ok() {
                self.killed.insert(identity);
                victims += 1;
            }
        }
        self.quiet = if victims == 0 { self.quiet + 1 } else { 0 };
        victims == 0 && (!unclear || self.quiet >= QUIET_PASSES)
    }
}
