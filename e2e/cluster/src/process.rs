//! Starts servers that outlive us, remembers them by pid and start time, and ends them.
//! It must not end a process whose start time differs from the one recorded.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::command::last_lines;

/// A started process. The start time, in clock ticks since boot, tells it from a later process
/// that got the same pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PidRecord {
    /// What it is, also the name of its log.
    pub(crate) name: String,
    pid: i32,
    start_ticks: u64,
}

impl PidRecord {
    /// The record of a process that runs now.
    pub(crate) fn of(name: &str, pid: i32) -> Option<PidRecord> {
        let (start_ticks, _) = read_stat(pid)?;
        Some(PidRecord {
            name: name.to_owned(),
            pid,
            start_ticks,
        })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether this very process still runs; a zombie does not.
    pub(crate) fn runs(&self) -> bool {
        read_stat(self.pid).is_some_and(|(start, state)| start == self.start_ticks && state != 'Z')
    }

    fn signal(&self, signal: Signal) {
        if self.runs() {
            // It may end between the check and the signal.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Sends TERM to all, then KILL to those that still run after `grace`, and waits for the end.
pub(crate) fn stop(records: &[PidRecord], grace: Duration) {
    records
        .iter()
        .for_each(|record| record.signal(Signal::SIGTERM));
    if wait_gone(records, grace) {
        return;
    }
    records
        .iter()
        .for_each(|record| record.signal(Signal::SIGKILL));
    wait_gone(records, Duration::from_secs(10));
}

fn wait_gone(records: &[PidRecord], limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while records.iter().any(PidRecord::runs) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Starts a server in a session of its own, so that it outlives the caller's terminal, with its
/// output in `log`.
pub(crate) fn start(
    name: &str,
    program: &Path,
    arguments: &[String],
    log: &Path,
) -> Result<PidRecord> {
    let out = File::create(log).with_context(|| format!("could not write {}", log.display()))?;
    // `setsid` replaces itself by the program, so the child's pid is the program's.
    let mut child = Command::new("setsid")
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .current_dir("/")
        .spawn()
        .with_context(|| format!("could not start {name}"))?;
    let pid = i32::try_from(child.id()).context("a pid fits in i32")?;
    let record = PidRecord::of(name, pid).with_context(|| format!("{name} ended at once"))?;
    // Collects the exit status while we live, so that no zombie is left; init does it afterwards.
    std::thread::spawn(move || child.wait());
    Ok(record)
}

/// The end of a server's log, for an error message.
pub(crate) fn log_tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    match text {
        Ok(text) => format!(
            "last lines of {}:\n{}",
            log.display(),
            last_lines(&text, 12)
        ),
        Err(error) => format!("its log {} is not readable: {error}", log.display()),
    }
}

/// All processes whose command line has an argument for which `matches` holds, but ourselves.
pub(crate) fn find(name: &str, matches: impl Fn(&[String]) -> bool) -> Vec<PidRecord> {
    let own = std::process::id();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| matches(&command_line(*pid)))
        .filter_map(|pid| PidRecord::of(name, i32::try_from(pid).ok()?))
        .collect()
}

/// The given processes and all that descend from them.
pub(crate) fn with_descendants(roots: Vec<PidRecord>) -> Vec<PidRecord> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents: Vec<(i32, i32)> = pids
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, parent(pid)?))
        })
        .collect();
    let mut all = roots;
    let mut next = 0;
    while next < all.len() {
        let of = all[next].pid;
        let children = parents.iter().filter(|(_, parent)| *parent == of);
        all.extend(children.filter_map(|(pid, _)| PidRecord::of("descendant", *pid)));
        next += 1;
    }
    all
}

/// Identifies the boot: pids recorded in another one mean nothing.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn read_stat(pid: i32) -> Option<(u64, char)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Start time and state of `/proc/PID/stat` (proc(5): fields 22 and 3). The program's name,
/// field 2, may itself contain spaces and brackets.
fn parse_stat(stat: &str) -> Option<(u64, char)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((
        fields.get(19)?.parse().ok()?,
        fields.first()?.chars().next()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> PidRecord {
        let log = tempfile::NamedTempFile::new().unwrap();
        start(
            "sleeper",
            Path::new("sleep"),
            &["600".to_owned()],
            log.path(),
        )
        .unwrap()
    }

    #[test]
    fn a_name_with_brackets_does_not_confuse_the_stat_line() {
        let stat = "7 (a) b)) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(stat), Some((4242, 'S')));
        assert_eq!(parse_stat("7 (x) S 1"), None);
    }

    #[test]
    fn a_started_process_runs_in_its_own_session_until_stopped() {
        let record = sleeper();
        assert!(record.runs());
        let pid = Pid::from_raw(record.pid());
        // The session changes when `setsid` has run, a moment after the start.
        let end = Instant::now() + Duration::from_secs(10);
        while nix::unistd::getsid(Some(pid)) != Ok(pid) {
            assert!(Instant::now() < end, "it did not get a session of its own");
            std::thread::sleep(Duration::from_millis(5));
        }
        stop(std::slice::from_ref(&record), Duration::from_secs(5));
        assert!(!record.runs());
    }

    #[test]
    fn a_recycled_pid_is_not_taken_for_the_recorded_process() {
        let record = sleeper();
        let recycled = PidRecord {
            start_ticks: record.start_ticks + 1,
            ..record.clone()
        };
        assert!(!recycled.runs());
        stop(&[recycled], Duration::from_millis(100));
        assert!(record.runs(), "the other process was ended");
        stop(&[record], Duration::from_secs(5));
    }

    #[test]
    fn a_process_that_ignores_term_is_killed() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let words = ["-c".to_owned(), script.to_owned()];
        let record = start("deaf", Path::new("sh"), &words, log.path()).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while !fs::read_to_string(log.path()).unwrap().contains("ready") {
            assert!(Instant::now() < end, "the script did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        stop(std::slice::from_ref(&record), Duration::from_millis(100));
        assert!(!record.runs());
    }

    #[test]
    fn descendants_are_found_through_several_generations() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let words = ["-c".to_owned(), "sh -c 'sleep 600; :'; :".to_owned()];
        let record = start("tree", Path::new("sh"), &words, log.path()).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        let all = loop {
            let all = with_descendants(vec![record.clone()]);
            if all.len() >= 3 {
                break all;
            }
            assert!(Instant::now() < end, "only {all:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        stop(&all, Duration::from_secs(5));
        assert!(all.iter().all(|record| !record.runs()));
    }
}
