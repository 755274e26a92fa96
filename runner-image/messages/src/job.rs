//! Offers, progress and results of jobs.
//! Must not decide what an outcome means for a run.

/// One attempt of one job, with its fencing number.
#[derive(Clone, Eq, Hash, PartialEq, prost::Message)]
pub struct JobKey {
    /// Namespace of the run.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Name of the run.
    #[prost(string, tag = "2")]
    pub run: String,
    /// Uid of the run.
    #[prost(string, tag = "3")]
    pub run_uid: String,
    /// Name of the job.
    #[prost(string, tag = "4")]
    pub job: String,
    /// Number of the attempt, from 1.
    #[prost(uint32, tag = "5")]
    pub attempt: u32,
    /// Fencing number: lower ones are refused.
    #[prost(uint64, tag = "6")]
    pub fence: u64,
}

/// A job to run.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct Offer {
    /// The attempt.
    #[prost(message, optional, tag = "1")]
    pub job: Option<JobKey>,
    /// Steps in order.
    #[prost(message, repeated, tag = "2")]
    pub steps: Vec<StepSpec>,
    /// Longest time for all steps, in milliseconds; 0 for none.
    #[prost(uint64, tag = "3")]
    pub timeout_ms: u64,
    /// Working directory of the job; empty for the agent's own.
    #[prost(string, tag = "4")]
    pub workdir: String,
    /// Environment of all steps.
    #[prost(message, repeated, tag = "5")]
    pub base_env: Vec<EnvEntry>,
    /// Time from TERM to KILL when a step is stopped, in milliseconds.
    #[prost(uint64, tag = "6")]
    pub stop_grace_ms: u64,
}

/// Answer to an offer.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct OfferReply {
    /// True when the agent runs, or has run, this attempt.
    #[prost(bool, tag = "1")]
    pub accepted: bool,
    /// Why not.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// One step of an offer.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct StepSpec {
    /// Name of the step.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The script.
    #[prost(string, tag = "2")]
    pub script: String,
    /// Shell and its arguments; empty for the agent's default.
    #[prost(string, repeated, tag = "3")]
    pub shell: Vec<String>,
    /// Working directory, relative to the job's or absolute; empty for the job's.
    #[prost(string, tag = "4")]
    pub workdir: String,
    /// Environment; later entries win.
    #[prost(message, repeated, tag = "5")]
    pub env: Vec<EnvEntry>,
    /// Longest time, in milliseconds; 0 for none.
    #[prost(uint64, tag = "6")]
    pub timeout_ms: u64,
    /// True when the step does not run though every step before succeeded.
    #[prost(bool, tag = "7")]
    pub skip_after_success: bool,
    /// True when the step also runs after one that failed.
    #[prost(bool, tag = "8")]
    pub run_after_failure: bool,
    /// True when the step also runs after the job was cancelled, in the time that is left.
    #[prost(bool, tag = "9")]
    pub run_after_cancel: bool,
    /// True when its failure is not the job's.
    #[prost(bool, tag = "10")]
    pub continue_on_error: bool,
    /// Number of the job's other container in which it runs, from 1; 0 for the agent's own.
    #[prost(uint32, tag = "11")]
    pub annex: u32,
}

/// One environment variable of a step.
#[derive(Clone, Eq, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct EnvEntry {
    /// Name of the variable.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where its value comes from.
    #[prost(oneof = "EnvSource", tags = "2, 3, 5")]
    pub source: Option<EnvSource>,
    /// True when the value must be masked in logs.
    #[prost(bool, tag = "4")]
    pub secret: bool,
}

/// Without the value of a secret.
impl std::fmt::Debug for EnvEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            source,
            secret,
        } = self;
        let mut shown = f.debug_struct("EnvEntry");
        shown.field("name", name).field("secret", secret);
        match source {
            Some(EnvSource::Value(_)) if *secret => shown.finish_non_exhaustive(),
            source => shown.field("source", source).finish(),
        }
    }
}

/// Where a variable's value comes from.
#[derive(Clone, Eq, PartialEq, prost::Oneof)]
pub enum EnvSource {
    /// The value itself.
    #[prost(string, tag = "2")]
    Value(String),
    /// A variable of the agent's own environment; unset when that is unset.
    #[prost(string, tag = "3")]
    FromAgentEnv(String),
    /// Parts that are put together when the step begins.
    #[prost(message, tag = "5")]
    Parts(Parts),
}

/// A value in parts.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct Parts {
    /// The parts, in order.
    #[prost(message, repeated, tag = "1")]
    pub parts: Vec<Part>,
}

/// One part of a value.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct Part {
    /// What it is.
    #[prost(oneof = "PartKind", tags = "1, 2")]
    pub kind: Option<PartKind>,
}

/// What a part of a value is.
#[derive(Clone, Eq, PartialEq, prost::Oneof)]
pub enum PartKind {
    /// Text as it stands.
    #[prost(string, tag = "1")]
    Text(String),
    /// The hash of the files that match.
    #[prost(message, tag = "2")]
    HashFiles(Patterns),
}

/// Which files are hashed.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct Patterns {
    /// Globs, relative to the job's working directory; the last that matches a path counts, and
    /// one with a `!` before it takes the path away.
    #[prost(string, repeated, tag = "1")]
    pub patterns: Vec<String>,
}

/// Stops a job.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct CancelRequest {
    /// The attempt.
    #[prost(message, optional, tag = "1")]
    pub job: Option<JobKey>,
    /// Why.
    #[prost(enumeration = "CancelReason", tag = "2")]
    pub reason: i32,
    /// Time from TERM to KILL, in milliseconds.
    #[prost(uint64, tag = "3")]
    pub grace_ms: u64,
}

/// Why a job is stopped.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub enum CancelReason {
    /// Somebody cancelled the run.
    Cancelled = 0,
    /// The run ran out of time.
    RunTimeout = 1,
}

/// How far a job is.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct Progress {
    /// The attempt.
    #[prost(message, optional, tag = "1")]
    pub job: Option<JobKey>,
    /// Every step, in order.
    #[prost(message, repeated, tag = "2")]
    pub steps: Vec<StepReport>,
}

/// Where one step stands.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct StepReport {
    /// Index of the step, from 0.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// Where it stands.
    #[prost(enumeration = "StepPhase", tag = "2")]
    pub state: i32,
    /// Exit code of its process.
    #[prost(int32, optional, tag = "3")]
    pub exit_code: Option<i32>,
    /// Signal that ended its process.
    #[prost(int32, optional, tag = "4")]
    pub signal: Option<i32>,
    /// Start, in milliseconds since 1970; 0 before it.
    #[prost(int64, tag = "5")]
    pub started_unix_ms: i64,
    /// End, in milliseconds since 1970; 0 before it.
    #[prost(int64, tag = "6")]
    pub ended_unix_ms: i64,
    /// A sentence on what went wrong.
    #[prost(string, tag = "7")]
    pub message: String,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub enum StepPhase {
    /// Not started.
    Pending = 0,
    /// Running.
    Running = 1,
    /// Exit code 0.
    Succeeded = 2,
    /// Any other end.
    Failed = 3,
    /// Not run, by its condition or since an earlier step failed.
    Skipped = 4,
    /// Stopped by cancel.
    Cancelled = 5,
    /// Stopped by a timeout.
    TimedOut = 6,
}

/// The end of a job.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct JobResult {
    /// The attempt.
    #[prost(message, optional, tag = "1")]
    pub job: Option<JobKey>,
    /// How it ended.
    #[prost(enumeration = "Outcome", tag = "2")]
    pub outcome: i32,
    /// A sentence on what went wrong.
    #[prost(string, tag = "3")]
    pub message: String,
    /// Every step, in order.
    #[prost(message, repeated, tag = "4")]
    pub steps: Vec<StepReport>,
    /// What the steps wrote to `$RUSTCI_OUTPUT`; at most [`crate::MAX_OUTPUT_BYTES`].
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<StepOutput>,
    /// Length of each step's log in bytes, by index.
    #[prost(uint64, repeated, tag = "6")]
    pub log_ends: Vec<u64>,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub enum Outcome {
    /// Unknown to this version.
    Unspecified = 0,
    /// All steps succeeded.
    Succeeded = 1,
    /// A step failed.
    StepFailed = 2,
    /// A step ran out of time.
    StepTimedOut = 3,
    /// The job ran out of time.
    JobTimedOut = 4,
    /// Stopped, since the run was cancelled.
    Cancelled = 5,
    /// Stopped, since the run ran out of time.
    RunTimedOut = 6,
    /// The agent could not run the job.
    Setup = 7,
}

/// One output of one step.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct StepOutput {
    /// Name of the step.
    #[prost(string, tag = "1")]
    pub step: String,
    /// Name of the output.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "3")]
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_a_secret_is_not_shown_and_others_are() {
        let entry = |secret| EnvEntry {
            name: "TREE".into(),
            source: Some(EnvSource::Value("hazel".into())),
            secret,
        };
        let offer = |secret| Offer {
            base_env: vec![entry(secret)],
            ..Offer::default()
        };
        assert!(!format!("{:?}", offer(true)).contains("hazel"));
        assert!(format!("{:?}", offer(false)).contains("hazel"));
    }

    #[test]
    fn an_outcome_that_is_missing_or_unknown_is_no_success() {
        for outcome in [0, 99] {
            let result = JobResult {
                outcome,
                ..JobResult::default()
            };
            assert_eq!(result.outcome(), Outcome::Unspecified);
        }
    }
}
