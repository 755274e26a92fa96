//! What the system says: processors, time used, memory, how busy the machine is.
//! Must not change anything beyond this process.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Processor time in seconds, of user and system.
    pub(crate) cpu: f64,
    /// Resident memory in kB.
    pub(crate) rss_kb: f64,
}

/// Keeps this process, and the threads it will start, on one processor.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("can't stay on a processor")
}

/// As many open files as the system allows without asking.
pub(crate) fn open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// What this process has used.
pub(crate) fn usage() -> Result<Usage> {
    let used = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|text| text.trim().strip_suffix("kB"))
        .context("/proc/self/status has no VmRSS")?;
    Ok(Usage {
        cpu: seconds(used.user_time()) + seconds(used.system_time()),
        rss_kb: rss.trim().parse()?,
    })
}

/// How busy the processors are just now: shares of their time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Busy {
    /// Not idle.
    pub(crate) busy: f64,
    /// Given to other machines of the host.
    pub(crate) steal: f64,
}

/// Looks for a moment.
pub(crate) fn busy() -> Result<Busy> {
    let before = times()?;
    std::thread::sleep(Duration::from_millis(100));
    let after = times()?;
    let passed: Vec<f64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let all: f64 = passed.iter().take(8).sum();
    if all <= 0.0 {
        return Ok(Busy::default());
    }
    // user nice system idle iowait irq softirq steal
    let idle = passed[3] + passed[4];
    Ok(Busy {
        busy: (all - idle) / all,
        steal: passed[7] / all,
    })
}

fn times() -> Result<Vec<f64>> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let times: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    anyhow::ensure!(times.len() >= 8, "/proc/stat has no steal time");
    Ok(times)
}
