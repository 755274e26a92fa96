//! Concurrency groups: whether a run may start, waits, or gives way to a newer one.
//! Must not keep an order of its own: it follows from the runs, so a restart does not lose it.

use std::cmp::Reverse;

use crds::{ConcurrencyPolicy, ConcurrencyStatus, PipelineRun};
use jiff::Timestamp;

use super::reason::RunReason;
use super::start::Resolved;
use super::turn::{Inputs, Turn};
use crate::expression::{Status, Uses};
use crate::validate::{ValidPipeline, limit};

/// Positions that a status shows: each change is a write for every run behind.
const MAX_SHOWN: usize = 20;
/// A queued run is looked at when another run of its group changes; this is for a change that
/// was missed.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// Another unfinished run of the namespace that is in a concurrency group.
#[derive(Clone, Debug, PartialEq)]
pub struct Rival {
    /// Name of the run.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// Its group, and what it does to older runs.
    pub concurrency: ConcurrencyStatus,
    /// True when it has started, false while it waits.
    pub holds: bool,
}

impl Rival {
    /// A run as a rival; none for one that is finished, in no group, or held back.
    pub fn of(run: &PipelineRun) -> Option<Self> {
        let status = run.status.as_ref()?;
        let concurrency = status.concurrency.clone()?;
        let holds = status.start_time.is_some();
        let is_held_back = run.spec.suspend || run.spec.cancel;
        if status.completion_time.is_some() || (!holds && is_held_back) {
            return None;
        }
        Some(Self {
            name: run.metadata.name.clone()?,
            created: created(run),
            concurrency,
            holds,
        })
    }

    fn is_newer_than(&self, run: &PipelineRun) -> bool {
        let name = run.metadata.name.as_deref().unwrap_or_default();
        (self.created, self.name.as_str()) > (created(run), name)
    }
}

fn created(run: &PipelineRun) -> Timestamp {
    let time = run.metadata.creation_timestamp.as_ref();
    time.map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// Evaluates the group of a run that has just come.
pub(super) fn join(turn: &mut Turn<'_>, pipeline: &ValidPipeline) -> Result<(), Resolved> {
    let Some(valid) = &pipeline.concurrency else {
        return Ok(());
    };
    let uses = Uses::default();
    let evaluator = turn.evaluator(
        pipeline,
        Inputs {
            job: 0,
            matrix: &[],
            uses: &uses,
            status: Status::default(),
            steps: Vec::new(),
        },
    );
    let group = valid.group.evaluate(&evaluator).and_then(|group| {
        if group.len() > limit::GROUP {
            return Err(format!("the name has more than {} bytes", limit::GROUP));
        }
        Ok(group)
    });
    let group = group.map_err(|error| Resolved::Rejected {
        reason: RunReason::InvalidRun,
        message: format!("concurrency.group: {error}"),
    })?;
    if !group.is_empty() {
        turn.status.concurrency = Some(ConcurrencyStatus {
            group,
            policy: valid.spec.policy,
            max_parallel: valid.spec.max_parallel.unwrap_or(1),
            priority: valid.spec.priority.unwrap_or(0),
            position: None,
            holder: None,
        });
    }
    Ok(())
}

/// Whether a run that has not started may: the error is what it does instead.
pub(super) fn admit(turn: &mut Turn<'_>) -> Result<(), Resolved> {
    let Some(own) = turn.status.concurrency.clone() else {
        return Ok(());
    };
    let spec = &turn.observed.run.spec;
    if spec.cancel {
        return Err(Resolved::Rejected {
            reason: RunReason::Cancelled,
            message: "the run was cancelled before it started".to_owned(),
        });
    }
    if let Some(newer) = newer(turn, |policy| policy != ConcurrencyPolicy::Queue) {
        return Err(Resolved::Rejected {
            reason: RunReason::Superseded,
            message: format!("the newer run `{newer}` of its group takes its place"),
        });
    }
    if spec.suspend {
        return Err(Resolved::Waiting {
            reason: RunReason::Suspended,
            message: "the run is suspended and has not started".to_owned(),
        });
    }
    let run = turn.observed.run;
    let mine = rank(own.priority, created(run), turn.run_name());
    let is_ahead = |rival: &&Rival| {
        !rival.holds && rank(rival.concurrency.priority, rival.created, &rival.name) < mine
    };
    let ahead = rivals(turn).filter(is_ahead).count();
    let holders = rivals(turn).filter(|rival| rival.holds).count();
    let room = (own.max_parallel as usize).saturating_sub(holders);
    if room <= ahead {
        return Err(wait(turn, own, ahead + 1));
    }
    turn.status.concurrency = Some(ConcurrencyStatus {
        position: None,
        holder: None,
        ..own
    });
    Ok(())
}

/// The order in which waiting runs start: lowest first.
fn rank(priority: i32, created: Timestamp, name: &str) -> (Reverse<i32>, Timestamp, &str) {
    (Reverse(priority), created, name)
}

/// Lets the run wait, and says at which place and for whom.
fn wait(turn: &mut Turn<'_>, own: ConcurrencyStatus, position: usize) -> Resolved {
    let holders = rivals(turn).filter(|rival| rival.holds);
    let holder = holders.map(|rival| rival.name.clone()).min();
    let shown = position <= MAX_SHOWN;
    let place = match shown {
        true => format!("it is number {position} in the queue"),
        false => format!("more than {MAX_SHOWN} runs are ahead"),
    };
    let held = holder
        .as_ref()
        .map(|holder| format!(", held by the run `{holder}`"));
    let held = held.unwrap_or_default();
    let message = format!("waits for the group `{}`{held}: {place}", own.group);
    turn.status.concurrency = Some(ConcurrencyStatus {
        position: shown.then(|| u32::try_from(position).unwrap_or(u32::MAX)),
        holder,
        ..own
    });
    turn.is_over(turn.now, LOOK);
    let reason = RunReason::Queued;
    Resolved::Waiting { reason, message }
}

/// The newer run that a started run has to give way to.
pub(super) fn successor(turn: &Turn<'_>) -> Option<String> {
    newer(turn, |policy| policy == ConcurrencyPolicy::CancelInProgress)
}

fn newer(turn: &Turn<'_>, wanted: impl Fn(ConcurrencyPolicy) -> bool) -> Option<String> {
    let newer = rivals(turn)
        .find(|rival| wanted(rival.concurrency.policy) && rival.is_newer_than(turn.observed.run));
    newer.map(|rival| rival.name.clone())
}

/// The other runs of the run's group.
fn rivals<'t>(turn: &'t Turn<'_>) -> impl Iterator<Item = &'t Rival> {
    let own = turn
        .status
        .concurrency
        .as_ref()
        .map(|own| own.group.as_str());
    let name = turn.run_name();
    turn.observed
        .rivals
        .iter()
        .filter(move |rival| own == Some(rival.concurrency.group.as_str()) && rival.name != name)
}
