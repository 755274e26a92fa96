//! What may differ between hubs, and their bounds.
//! Must not be read from a file here.

use std::time::{Duration, SystemTime};

/// The settings of a hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// What an agent is told to wait when its job is not known yet, or the disk failed.
    pub retry_after: Duration,
    /// How long one try of an offer or a cancel may take.
    pub delivery_deadline: Duration,
    /// First and largest wait between two tries.
    pub delivery_backoff: (Duration, Duration),
    /// Largest offer in bytes, encoded; a larger one ends its job in set-up.
    pub max_offer: usize,
    /// Bytes that one log stream may hold in memory; beyond it the agent waits.
    pub log_buffer: usize,
    /// Bytes that all log streams may hold beyond one chunk each; beyond it each reads one
    /// chunk at a time.
    pub log_budget: usize,
    /// Log streams that one job may have open; beyond it they are refused, retryable.
    pub log_streams: usize,
    /// How long an agent may leave an acknowledgement of its log unread.
    pub ack_deadline: Duration,
    /// Certificates issued at once; beyond it agents are asked to come again.
    pub issues: usize,
    /// Finished jobs remembered to answer repeated results; the oldest is forgotten first.
    pub finished: usize,
    /// The wall clock.
    pub clock: fn() -> SystemTime,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            retry_after: Duration::from_secs(1),
            delivery_deadline: Duration::from_secs(10),
            delivery_backoff: (Duration::from_millis(100), Duration::from_secs(5)),
            max_offer: 960 * 1024,
            log_buffer: 256 * 1024,
            log_budget: 64 * 1024 * 1024,
            log_streams: 16,
            ack_deadline: Duration::from_secs(30),
            issues: 32,
            finished: 65_536,
            clock: SystemTime::now,
        }
    }
}
