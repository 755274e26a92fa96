//! Both ends of a log and of a transfer are killed at any byte and start again from their disks.
//! Must not let a process remember anything that was not on its disk.

mod chunks;
mod log;
mod wire;

use super::simulation::choices::Choices;

/// What the runs have shown, so that runs without kills are noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) sender_kills: u64,
    pub(crate) receiver_kills: u64,
    pub(crate) cuts: u64,
    pub(crate) damages: u64,
    /// Writes of which a part was on the disk when the receiver was killed.
    pub(crate) torn: u64,
    /// Connections that began while an earlier one still brought bytes.
    pub(crate) overlaps: u64,
    pub(crate) bytes: u64,
}

impl Shown {
    pub(crate) fn add(&mut self, other: Shown) {
        self.sender_kills += other.sender_kills;
        self.receiver_kills += other.receiver_kills;
        self.cuts += other.cuts;
        self.damages += other.damages;
        self.torn += other.torn;
        self.overlaps += other.overlaps;
        self.bytes += other.bytes;
    }
}

/// What happened, for people; empty unless asked for.
#[derive(Default)]
pub(crate) struct Trace {
    on: bool,
    pub(crate) lines: Vec<String>,
}

impl Trace {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.on {
            self.lines.push(line());
        }
    }
}

/// One seed: a log, then a transfer.
///
/// # Errors
/// What was lost or doubled.
pub(crate) fn run(seed: u64, trace: &mut Trace) -> Result<Shown, String> {
    let mut shown = log::World::new(Choices::seeded(seed)).run(trace)?;
    // Other numbers than those of the log.
    let choices = Choices::seeded(seed ^ 0xc0c0_c0c0_0000_0000);
    shown.add(chunks::World::new(choices).run(trace)?);
    Ok(shown)
}

/// A trace that is kept.
pub(crate) fn traced() -> Trace {
    Trace {
        on: true,
        lines: Vec::new(),
    }
}
