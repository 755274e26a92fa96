//! How a peer behaves on one connection, against the limits; who goes over them is put out.
//! Must not judge what a payload says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::frames::Flow;
use super::line::Heard;
use super::{CallError, Code, Limits};
use crate::metrics::{Metrics, Refusal};
use crate::qos::TokenBucket;
use crate::transport::Connection;
use crate::wire::CloseCode;

/// The counts of one connection, shared by its streams.
pub(super) struct Conduct {
    connection: Connection,
    heard: Arc<Heard>,
    metrics: Arc<Metrics>,
    resets: Mutex<TokenBucket>,
    control: Mutex<TokenBucket>,
    out: AtomicBool,
    empty_frames: u32,
    floor: (usize, Duration),
    pub(super) stall: Duration,
}

impl Conduct {
    pub(super) fn new(
        connection: Connection,
        heard: Arc<Heard>,
        metrics: Arc<Metrics>,
        limits: &Limits,
    ) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            connection,
            heard,
            metrics,
            resets: Mutex::new(TokenBucket::new(limits.reset_rate, now)),
            control: Mutex::new(TokenBucket::new(limits.control_rate, now)),
            out: AtomicBool::new(false),
            empty_frames: limits.empty_frames,
            floor: limits.frame_floor,
            stall: limits.stall,
        })
    }

    /// The peer broke off a stream that it had opened.
    pub(super) fn broken_off(&self) {
        if !self.resets.lock().take(1, Instant::now()) {
            self.put_out(Refusal::Resets, "too many streams were broken off");
        }
    }

    /// A frame came on the control stream.
    pub(super) fn control_frame(&self) -> Result<(), Flow> {
        if self.control.lock().take(1, Instant::now()) {
            return Ok(());
        }
        self.put_out(Refusal::ControlFlood, "too many control frames");
        Err(Flow::Lost)
    }

    /// So many empty frames came in a row on one stream.
    pub(super) fn empty_frames(&self, count: u32) -> Result<(), Flow> {
        if count <= self.empty_frames {
            return Ok(());
        }
        Err(self.fault(Refusal::EmptyFrames, "too many empty frames in a row"))
    }

    /// A frame was over its cap.
    pub(super) fn oversize(&self) {
        self.metrics.refused(Refusal::Oversize).add(1);
    }

    /// Something was refused without the connection being put out.
    pub(super) fn turned_away(&self, reason: Refusal) {
        self.metrics.refused(reason).add(1);
    }

    /// An answer was not read in time.
    pub(super) fn stalled(&self) {
        self.metrics.refused(Refusal::Stalled).add(1);
    }

    /// The control stream broke the protocol: closes the connection.
    pub(super) fn broke_protocol(&self, why: &str) {
        self.close(Refusal::Protocol, CloseCode::Protocol, why);
    }

    /// Closes the connection of a peer that went over a rate.
    fn put_out(&self, reason: Refusal, why: &str) {
        self.close(reason, CloseCode::Excess, why);
    }

    /// Closes the connection, once: what its streams still do does not count again.
    fn close(&self, reason: Refusal, code: CloseCode, why: &str) {
        if !self.out.swap(true, Ordering::Relaxed) {
            self.metrics.refused(reason).add(1);
            self.connection.close(code, why);
        }
    }

    fn fault(&self, reason: Refusal, why: &str) -> Flow {
        self.metrics.refused(reason).add(1);
        let code = match reason {
            Refusal::SlowFrame => Code::DeadlineExceeded,
            _ => Code::ResourceExhausted,
        };
        Flow::Failed(CallError::new(code, why))
    }
}

/// How fast the frame or body under way comes.
pub(super) struct Pace {
    conduct: Arc<Conduct>,
    since: Instant,
    bytes: usize,
}

impl Pace {
    pub(super) fn new(conduct: Arc<Conduct>) -> Self {
        Self {
            conduct,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// When to look again at the latest.
    pub(super) fn until(&self) -> Instant {
        self.since + self.conduct.floor.1
    }

    /// More bytes came, perhaps none: whether that is fast enough.
    pub(super) fn check(&mut self, bytes: usize, now: Instant) -> Result<(), Flow> {
        self.bytes += bytes;
        if now < self.until() {
            return Ok(());
        }
        // With nothing heard on any stream the link is at fault, not this one.
        let link_was_up = self.conduct.heard.at() > self.since;
        if self.bytes < self.conduct.floor.0 && link_was_up {
            let why = "a frame came too slowly";
            return Err(self.conduct.fault(Refusal::SlowFrame, why));
        }
        self.since = now;
        self.bytes = 0;
        Ok(())
    }
}
