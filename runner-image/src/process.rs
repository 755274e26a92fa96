//! Starts the processes of a job's steps, and makes sure that none outlives the job.
//! Must not know scripts, logs or the hub.

use std::collections::HashSet;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::process::{Child, Command};
use tokio::time::Instant;

mod hunt;
mod reaper;
mod table;

use hunt::{Choice, Hunt};
use table::{Process, Table};

/// Variable by which a step's processes are found after they have left their group. Its value
/// lists the marks of all jobs around, so that a job inside a job's step is found by both.
pub const MARK: &str = "RUSTCI_PROCESS_MARK";

/// A killed process is gone within microseconds unless the kernel holds it; more passes would
/// only wait for a process that cannot be killed.
const KILL_PASSES: u32 = 50;
const KILL_PAUSE: Duration = Duration::from_millis(2);
const GROUP_POLL: Duration = Duration::from_millis(5);

/// Whose children the processes that a step leaves behind become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This process runs one job and nothing else (the agent in a pod). It adopts and reaps
    /// orphans, as PID 1 or as child subreaper, so all its descendants belong to the job.
    Exclusive,
    /// Several jobs and a user's program share this process (local mode). Orphans go to the
    /// system's init; they are found by their group and by [`MARK`] in their first environment.
    /// A process that leaves its group **and** clears its environment is not found.
    Shared,
}

/// The processes of one job. Dropping it kills them all.
pub struct Processes {
    ownership: Ownership,
    mark: String,
    state: Arc<Mutex<State>>,
    reaper: Option<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Children that tokio waits for: never to be reaped by us.
    waited: HashSet<i32>,
    /// Groups whose leader is not reaped yet, so that their number cannot belong to another.
    groups: HashSet<i32>,
    /// Members seen in a group when its leader had ended.
    left: Vec<Process>,
    /// All were killed, and none was started since.
    ended: bool,
}

impl Processes {
    /// Prepares for the processes of one job. Must be called inside a tokio runtime.
    pub fn new(ownership: Ownership) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let reaper = match ownership {
            Ownership::Exclusive => Some(reaper::start(Arc::clone(&state))?),
            Ownership::Shared => None,
        };
        let random = RandomState::new().hash_one(std::process::id());
        Ok(Self {
            ownership,
            mark: format!("{random:016x}"),
            state,
            reaper,
        })
    }

    /// The value of [`MARK`] for the processes of step `index`.
    pub fn mark(&self, index: u32) -> OsString {
        let own = self.step_mark(index);
        match std::env::var_os(MARK) {
            Some(mut outer) => {
                outer.push(own);
                outer
            }
            None => own.into(),
        }
    }

    fn step_mark(&self, index: u32) -> String {
        format!("{}.{index};", self.mark)
    }

    /// Starts `command` as the leader of a new group. The child must be waited for by
    /// [`Processes::wait`].
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        command.process_group(0).kill_on_drop(true);
        // The reaper takes the same lock, so it cannot see the child before it is known as ours.
        let mut state = self.state.lock();
        let child = command.spawn()?;
        let pid = pid_of(&child);
        state.waited.insert(pid);
        state.groups.insert(pid);
        state.ended = false;
        Ok(child)
    }

    /// Waits for the leader `child` to end. Cancel-safe.
    pub async fn wait(
        &self,
        child: &mut Child,
        group: i32,
    ) -> io::Result<std::process::ExitStatus> {
        let status = child.wait().await;
        let table = self.group_alive(group).then(Table::read);
        let mut state = self.state.lock();
        state.waited.remove(&group);
        state.groups.remove(&group);
        if let Some(table) = table {
            let members = table.iter().filter(|process| process.group == group);
            state.left.extend(members.copied());
        }
        if self.ownership == Ownership::Exclusive {
            reaper::sweep(&state.waited);
        }
        status
    }

    /// Signals every process of a group. A group that is gone is no error.
    pub fn signal_group(&self, group: i32, signal: Signal) {
        if self.group_is_ours(group)
            && let Err(error) = signal::killpg(Pid::from_raw(group), signal)
            && error != Errno::ESRCH
        {
            tracing::warn!(group, %signal, %error, "could not signal a process group");
        }
    }

    /// Waits until no process of `group` is alive, at most until `deadline`.
    pub async fn group_ended(&self, group: i32, deadline: Instant) {
        while self.group_alive(group)
            && Table::read()
                .iter()
                .any(|process| process.group == group && !process.zombie)
            && Instant::now() < deadline
        {
            tokio::time::sleep(GROUP_POLL).await;
        }
    }

    /// Kills what step `index` started and what is still alive.
    pub async fn kill_step(&self, index: u32, group: i32) {
        let mark = self.step_mark(index);
        self.signal_group(group, Signal::SIGKILL);
        self.kill_all(|process, _| marked(process, &mark)).await;
    }

    /// Kills everything that the job started and what is still alive.
    pub async fn kill_job(&self) {
        let gone = self
            .kill_all(|process, table| self.owns(process, table))
            .await;
        self.state.lock().ended = gone;
    }

    async fn kill_all(&self, choose: impl Fn(&Process, &Table) -> Choice) -> bool {
        let mut hunt = Hunt::default();
        for _ in 0..KILL_PASSES {
            if hunt.pass(&choose) {
                return true;
            }
            tokio::time::sleep(KILL_PAUSE).await;
        }
        tracing::warn!("some processes of the job could not be killed");
        false
    }

    fn owns(&self, process: &Process, table: &Table) -> Choice {
        let this = i32::try_from(std::process::id()).expect("Linux process ids fit 31 bits");
        let by_group = {
            let state = self.state.lock();
            state.groups.contains(&process.group) || left_group(&state.left, table, process.group)
        };
        if by_group {
            return Choice::Ours;
        }
        match self.ownership {
            Ownership::Exclusive if table.descends_from(process, this) => Choice::Ours,
            Ownership::Exclusive => Choice::Foreign,
            Ownership::Shared => marked(process, &self.mark),
        }
    }

    /// A group's number may have been given to a stranger once its leader is reaped and its last
    /// member is gone; it is still ours while a member that we saw lives in it.
    fn group_is_ours(&self, group: i32) -> bool {
        let state = self.state.lock();
        state.groups.contains(&group) || left_group(&state.left, &Table::read(), group)
    }

    fn group_alive(&self, group: i32) -> bool {
        signal::killpg(Pid::from_raw(group), None::<Signal>).is_ok()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Some(reaper) = &self.reaper {
            reaper.abort();
        }
        if self.state.lock().ended {
            return;
        }
        let mut hunt = Hunt::default();
        for _ in 0..KILL_PASSES {
            if hunt.pass(|process, table| self.owns(process, table)) {
                return;
            }
            std::thread::sleep(KILL_PAUSE);
        }
    }
}

/// The process id of a child that was not waited for yet, which is also its group.
pub fn pid_of(child: &Child) -> i32 {
    let pid = child.id().expect("the child was not waited for yet");
    i32::try_from(pid).expect("Linux process ids fit 31 bits")
}

fn left_group(left: &[Process], table: &Table, group: i32) -> bool {
    left.iter()
        .any(|seen| seen.group == group && table.holds(seen))
}

/// Whether the first environment of a process holds `mark`. That of another user's process
/// cannot be read, and a kernel thread has none: neither is ours.
fn marked(process: &Process, mark: &str) -> Choice {
    let variable = [MARK.as_bytes(), b"="].concat();
    let Ok(environment) = std::fs::read(format!("/proc/{}/environ", process.pid)) else {
        return Choice::Foreign;
    };
    if environment.is_empty() && !process.kernel {
        return Choice::Unclear;
    }
    let found = environment
        .split(|&byte| byte == 0)
        .filter_map(|entry| entry.strip_prefix(variable.as_slice()))
        .any(|value| contains(value, mark.as_bytes()));
    if found { Choice::Ours } else { Choice::Foreign }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
