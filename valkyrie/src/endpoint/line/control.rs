//! The control stream of a line: handshake frames, pings, the announcement of the end.
//! Must not carry payloads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::frames::{Flow, FrameReader, push};
use super::{Heard, Line};
use crate::error::Code;
use crate::limits::Limits;
use crate::session::Health;
use crate::session::liveness::{Intervals, Liveness};
use crate::transport::{Ended, RecvHalf, SendHalf, StreamError};
use crate::wire::message::{Framed, Goaway, Progress};
use crate::wire::{Caps, Class, CloseCode, Frame, FrameType, WireError};

/// Which side a line is on: only the dialing one pings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::endpoint) enum Side {
    Dialing,
    Accepting,
}

/// The first stream of a connection.
pub(in crate::endpoint) struct ControlStream {
    send: SendHalf,
    reader: FrameReader,
    patience: Duration,
    /// The last ping that was not answered, and when it left.
    asked: Option<(Bytes, Instant)>,
}

impl ControlStream {
    pub(in crate::endpoint) fn new(
        (send, recv): (SendHalf, RecvHalf),
        caps: Caps,
        heard: Arc<Heard>,
    ) -> Self {
        send.set_priority(i32::MAX);
        Self {
            send,
            reader: FrameReader::new(recv, caps, heard),
            patience: Duration::MAX,
            asked: None,
        }
    }

    /// Sends bytes of the handshake.
    pub(in crate::endpoint) async fn send(&mut self, bytes: Bytes) -> Result<(), Flow> {
        Ok(self.send.write(&mut VecDeque::from([bytes])).await?)
    }

    /// The next frame of the handshake.
    pub(in crate::endpoint) async fn receive(&mut self) -> Result<Frame, Flow> {
        self.reader.expect().await
    }

    /// Ends the sending direction and waits until the peer has it, for a refusal.
    pub(in crate::endpoint) async fn end(mut self) {
        if self.send.finish().is_ok() {
            // Whether the peer took it or is gone already makes no difference.
            let _ = self.send.stopped().await;
        }
    }

    /// Serves the stream until the connection ends; `health` hears of every change.
    pub(in crate::endpoint) async fn serve(
        &mut self,
        line: &Line,
        limits: &Limits,
        side: Side,
        health: impl Fn(Health),
    ) -> Ended {
        self.reader.set_caps(line.terms.caps);
        self.reader.watch(line.conduct.clone());
        self.patience = line.terms.idle;
        let mut liveness = Liveness::new(intervals(line, limits), side == Side::Dialing, now());
        let mut known = Health::Alive;
        let mut nonce = 0_u64;
        let mut open = line.open.subscribe();
        loop {
            liveness.heard(line.heard.at());
            open.mark_unchanged();
            liveness.set_busy(line.is_busy(), now());
            let pulse = liveness.poll(now());
            if pulse.health != known {
                known = pulse.health;
                health(known);
            }
            if known == Health::Dead {
                line.connection
                    .close(CloseCode::Silent, "nothing was heard for too long");
                return line.closed().await;
            }
            if pulse.ping {
                nonce += 1;
                let payload = Bytes::copy_from_slice(&nonce.to_be_bytes());
                self.asked = Some((payload.clone(), now()));
                if self
                    .write(&Frame {
                        kind: FrameType::Ping,
                        payload,
                    })
                    .await
                    .is_err()
                {
                    return line.closed().await;
                }
            }
            let outcome = tokio::select! {
                ended = line.closed() => return ended,
                frame = self.reader.next() => self.received(line, frame).await,
                goaway = line.farewell.next() => self.write(&goaway.to_frame()).await,
                reports = line.governor.reports() => self.report(reports).await,
                changed = open.changed() => changed.map_err(|_| Flow::Lost),
                () = tokio::time::sleep_until(pulse.next.into()) => Ok(()),
            };
            match outcome {
                Ok(()) => {}
                Err(Flow::Lost) => return line.closed().await,
                Err(Flow::Failed(error)) => {
                    line.conduct.broke_protocol(&error.detail);
                    return line.closed().await;
                }
            }
        }
    }

    async fn received(
        &mut self,
        line: &Line,
        frame: Result<Option<Frame>, Flow>,
    ) -> Result<(), Flow> {
        let Some(frame) = frame? else {
            return Err(WireError::Truncated.into());
        };
        if frame.kind == FrameType::Progress && line.terms.progress {
            // It needs no answer, so it costs no more than data.
            line.governor.progress(Progress::from_frame(frame)?);
            return Ok(());
        }
        line.conduct.control_frame()?;
        match frame.kind {
            FrameType::Ping if frame.payload.len() == 8 => {
                // This side asks nothing, so it takes what the transport knows.
                if let Some(round_trip) = line.connection.round_trip() {
                    line.traffic(Class::Control).round_trip.observe(round_trip);
                }
                self.write(&Frame {
                    kind: FrameType::Pong,
                    payload: frame.payload,
                })
                .await
            }
            FrameType::Pong => {
                let asked = self.asked.take_if(|(payload, _)| *payload == frame.payload);
                if let Some((_, left)) = asked {
                    let round_trip = &line.traffic(Class::Control).round_trip;
                    round_trip.observe(now().saturating_duration_since(left));
                }
                Ok(())
            }
            FrameType::Goaway => {
                let goaway = Goaway::from_frame(frame)?;
                line.drain.lock().announced(goaway);
                line.changed.notify_waiters();
                // Wakes those who wait for a line that may start something.
                line.open.send_modify(|_| ());
                Ok(())
            }
            other => Err(WireError::Unexpected(other).into()),
        }
    }

    async fn report(&mut self, reports: Vec<Progress>) -> Result<(), Flow> {
        let mut chunks = VecDeque::new();
        for report in reports {
            chunks.push_back(report.to_frame().to_bytes());
        }
        let written = tokio::time::timeout(self.patience, self.send.write(&mut chunks)).await;
        Ok(written.unwrap_or(Err(StreamError::Reset(Code::Unavailable)))?)
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), Flow> {
        let mut chunks = VecDeque::new();
        push(&mut chunks, frame);
        // A peer that reads nothing for this long is as good as silent.
        let written = tokio::time::timeout(self.patience, self.send.write(&mut chunks)).await;
        Ok(written.unwrap_or(Err(StreamError::Reset(Code::Unavailable)))?)
    }
}

fn now() -> Instant {
    Instant::now()
}

fn intervals(line: &Line, limits: &Limits) -> Intervals {
    let keep_alive = line.terms.keep_alive;
    Intervals {
        keep_alive,
        probe: limits.probe.min(keep_alive),
        suspect: limits.suspect.min(line.terms.idle * 3 / 4).max(keep_alive),
        idle: line.terms.idle,
    }
}
