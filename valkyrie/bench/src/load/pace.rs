//! A clock that ticks on time, unlike tokio's, which counts whole milliseconds.
//! Must not skip a tick: late ones come together.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

pub(super) struct Pace {
    timer: AsyncFd<OwnedFd>,
    start: Instant,
    interval: Duration,
    ticks: u32,
    due: u64,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let nanos = TimeSpec::from_duration(interval);
        let start = Instant::now();
        timer.set(Expiration::Interval(nanos), TimerSetTimeFlags::empty())?;
        #[expect(
            deprecated,
            reason = "an owned descriptor stays the same one, so this is sound"
        )]
        let timer = AsyncFd::new(OwnedFd::from(timer))?;
        Ok(Self {
            timer,
            start,
            interval,
            ticks: 0,
            due: 0,
        })
    }

    /// The next tick: when it should have been.
    pub(super) async fn tick(&mut self) -> Result<Instant> {
        while self.due == 0 {
            let mut ready = self.timer.readable().await?;
            let mut count = [0; 8];
            match nix::unistd::read(self.timer.get_ref(), &mut count) {
                Ok(_) => self.due = u64::from_ne_bytes(count),
                Err(nix::Error::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
        self.due -= 1;
        self.ticks += 1;
        Ok(self.start + self.interval * self.ticks)
    }
}
