//! Keeps a run's object within the size that the API server takes: messages are cut to the room that
//! is left, and a run whose status could not fit does not start.
//! Must not cut what decides about anything: only sentences for people.

use crds::{JobStatus, NamedValue, ParamValue};

use super::outputs::MAX_OUTPUTS;
use super::turn::Turn;
use crate::reuse;
use crate::validate::{ValidJob, ValidPipeline};

/// Most bytes of an object: etcd takes no larger request unless it is told to
/// (`--max-request-bytes`).
pub(crate) const MAX_OBJECT: usize = 1_572_864;
/// For the outputs of all jobs, metadata, conditions, and the run's own place in its group.
const RESERVE: usize = MAX_OUTPUTS + 64 * 1024;
/// Longest message of a job or of a past attempt, where there is room.
const LONGEST: usize = 1024;
/// What every message has room for.
const SHORTEST: usize = 64;
/// An entry with every field but for texts of the user's, lists and messages.
const ENTRY: usize = 480;
/// A step's entry without its name, a past attempt without its message, the entry of a list of
/// names and values without either.
const STEP: usize = 150;
const ATTEMPT: usize = 230;
const PAIR: usize = 32;
/// What the API server keeps of who wrote an entry, without its name.
const MANAGED: usize = 40;
/// A question to people with its answer, without names of users and groups.
const APPROVAL: usize = 2 * 1024;

/// Why the run cannot have the jobs that it has; none when their status fits whatever happens.
pub(super) fn shortage(turn: &Turn<'_>, pipeline: &ValidPipeline) -> Option<String> {
    let (fixed, messages) = need(turn, pipeline);
    let needed = fixed + messages * SHORTEST;
    let left = MAX_OBJECT.saturating_sub(RESERVE + base(turn));
    let kib = |bytes: usize| bytes.div_ceil(1024);
    (needed > left).then(|| {
        format!(
            "the status of its {} jobs may need {} KiB, and beside the pipeline there is room for \
             {} KiB: have fewer jobs, steps or retries",
            turn.status.jobs.len(),
            kib(needed),
            kib(left)
        )
    })
}

/// Cuts the messages of the jobs to what there is room for.
pub(super) fn fit(turn: &mut Turn<'_>, pipeline: &ValidPipeline) {
    let texts = |job: &JobStatus| {
        let past = job.attempts.iter().map(|attempt| attempt.message.len());
        past.chain(job.message.as_ref().map(String::len)).max()
    };
    let longest = turn.status.jobs.iter().filter_map(texts).max();
    if longest.unwrap_or_default() <= SHORTEST {
        return;
    }
    let (fixed, messages) = need(turn, pipeline);
    let left = MAX_OBJECT.saturating_sub(RESERVE + base(turn) + fixed);
    let most = (left / messages.max(1)).clamp(SHORTEST, LONGEST);
    for job in &mut turn.status.jobs {
        let past = job.attempts.iter_mut().map(|attempt| &mut attempt.message);
        past.chain(&mut job.message)
            .for_each(|text| cut(text, most));
    }
}

fn cut(text: &mut String, most: usize) {
    const END: &str = "...";
    if escaped(text) <= most {
        return;
    }
    while escaped(text) > most - END.len() {
        // At least halfway to the goal each time: what is escaped may stand anywhere.
        let surplus = escaped(text) - (most - END.len());
        let end = text.len().saturating_sub(surplus.div_ceil(6));
        text.truncate(text.floor_char_boundary(end));
    }
    text.push_str(END);
}

/// Bytes of a text in JSON.
pub(super) fn escaped(text: &str) -> usize {
    let extra = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        0..0x20 => 5,
        _ => 0,
    });
    text.len() + extra.sum::<usize>()
}

/// The run without its jobs' status. What a snapshot needs does not change.
fn base(turn: &Turn<'_>) -> usize {
    turn.observed.prepared.base(|| {
        let spec = serde_json::to_vec(&turn.observed.run.spec).map_or(0, |json| json.len());
        let snapshot = turn.status.pipeline.as_ref();
        spec + snapshot.map_or(0, |kept| reuse::size(&kept.spec, &kept.used))
    })
}

/// Bytes that the jobs may need without their messages, and the number of those.
fn need(turn: &Turn<'_>, pipeline: &ValidPipeline) -> (usize, usize) {
    let (mut bytes, mut messages) = (0, 0);
    for (index, job) in pipeline.jobs.iter().enumerate() {
        let of_each = of_each(job);
        let attempts = job.retry.as_ref().map_or(0, |retry| retry.limit as usize);
        for entry in turn.group(index) {
            bytes += of_each + of_entry(entry) + attempts * ATTEMPT;
            messages += 1 + attempts;
        }
        bytes += job.spec.approval.as_ref().map_or(0, |approval| {
            let people = approval.users.iter().chain(&approval.groups);
            APPROVAL + people.map(|name| escaped(name) + 4).sum::<usize>()
        });
    }
    (bytes, messages)
}

/// What every entry of a job may need.
fn of_each(job: &ValidJob) -> usize {
    let steps = job.spec.steps.iter().map(|step| step.name.len() + STEP);
    let outputs = job.outputs.iter().map(|(name, _)| name.len() + PAIR);
    let runner = job.spec.runner.as_ref().map_or(0, String::len);
    ENTRY + runner + steps.sum::<usize>() + outputs.sum::<usize>()
}

fn of_entry(entry: &JobStatus) -> usize {
    let values = entry.matrix.iter().map(|pair: &NamedValue<ParamValue>| {
        let value = match &pair.value {
            ParamValue::String(text) => escaped(text),
            ParamValue::Integer(_) | ParamValue::Boolean(_) => 20,
        };
        pair.name.len() + value + PAIR
    });
    let origin = entry
        .from_run
        .as_ref()
        .map_or(0, |origin| origin.name.len() + origin.uid.len() + PAIR);
    let names = entry.name.len() * 2 + entry.job.as_ref().map_or(0, String::len);
    names + MANAGED + origin + values.sum::<usize>()
}
