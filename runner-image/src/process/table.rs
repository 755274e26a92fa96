//! A snapshot of the system's processes, from /proc.
//! Must not signal anything.

use std::collections::HashMap;

/// One process, as far as /proc/PID/stat tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Start time in clock ticks since boot: with the pid it names a process for ever.
    pub(super) started: u64,
    /// It has ended and only waits for its parent.
    pub(super) zombie: bool,
    /// It belongs to the kernel and has no program.
    pub(super) kernel: bool,
}

/// PF_KTHREAD of the kernel's include/linux/sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// All processes at one moment; one that ends while it is read may be missing.
#[derive(Default)]
pub(super) struct Table(HashMap<i32, Process>);

impl Table {
    pub(super) fn read() -> Self {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Self::default();
        };
        let pids = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let read = |pid: i32| {
            let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse(pid, &stat)?))
        };
        Self(pids.filter_map(read).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.0.values()
    }

    /// Whether `seen` still lives, in the same group.
    pub(super) fn holds(&self, seen: &Process) -> bool {
        self.0
            .get(&seen.pid)
            .is_some_and(|now| now.started == seen.started && now.group == seen.group)
    }

    pub(super) fn descends_from(&self, process: &Process, ancestor: i32) -> bool {
        let mut parent = process.parent;
        // A snapshot is not atomic, so a loop is possible in theory; no real chain is longer.
        for _ in 0..self.0.len() {
            if parent == ancestor {
                return true;
            }
            match self.0.get(&parent) {
                Some(next) => parent = next.parent,
                None => return false,
            }
        }
        false
    }
}

/// proc_pid_stat(5): the command stands in parentheses and may hold anything, so fields are
/// counted from the last closing one: state, ppid, pgrp, session, tty, tpgid, flags, ...;
/// starttime is the 22nd in all.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let text = std::str::from_utf8(&stat[close + 1..]).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        kernel: fields.get(6)?.parse::<u32>().ok()? & KERNEL_THREAD != 0,
        zombie: matches!(fields.first()?, &"Z" | &"X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_is_parsed() {
        let stat = b"7 (a) Z (b) S 3 5 5 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        let process = parse(7, stat).unwrap();
        assert_eq!(
            (process.parent, process.group, process.started),
            (3, 5, 98765)
        );
        assert!(!process.zombie);
        assert_eq!(parse(7, b"7 (a"), None);
    }

    #[test]
    fn this_process_is_in_the_table_and_descends_from_its_parent() {
        let table = Table::read();
        let this = i32::try_from(std::process::id()).unwrap();
        let own = table.iter().find(|process| process.pid == this).unwrap();
        assert!(table.holds(own));
        assert!(table.descends_from(own, nix::unistd::getppid().as_raw()));
        assert!(!table.descends_from(own, i32::MAX));
    }
}
