//! HELLO and HELLO_ACK: version, limits, session; both sides.
//! Must not trust the connection before HELLO_ACK, on either side.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::resume::{Secret, Ticket};
use crate::error::CallError;
use crate::limits::Limits;
use crate::wire::message::{Failure, Framed, Hello, HelloAck, WireLimits, grease, millis};
use crate::wire::{Caps, Frame, FrameType, SessionId, WireError};

/// The lowest and the highest version spoken here.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 1..=1;

/// The feature by which receivers report how far they have read.
pub const PROGRESS: u32 = 1;

/// The feature by which messages may be sent that have no answer.
pub const NOTIFY: u32 = 2;

/// The feature by which calls are numbered, and their bodies reported as streams are.
pub const NUMBERED_CALLS: u32 = 3;

/// Name and version of this library, as sent in the handshake.
const BUILD: &str = concat!("valkyrie/", env!("CARGO_PKG_VERSION"));

/// Smallest frame and body that both sides must be able to take, in bytes.
const FLOOR: u32 = 1024;
/// Shortest times a peer may ask for, so that it cannot make us spin.
const MIN_KEEP_ALIVE: Duration = Duration::from_millis(10);

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("no handshake in time")]
    Slow,
    /// The peer said no.
    #[error("refused: {0}")]
    Refused(CallError),
    /// There is no version that both speak.
    #[error("no common version: the peer speaks {min} to {max}")]
    Version {
        /// The peer's lowest version.
        min: u32,
        /// The peer's highest version.
        max: u32,
    },
    /// The peer broke the protocol.
    #[error("{0}")]
    Wire(#[from] WireError),
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The version spoken.
    pub version: u32,
    /// The largest frames, in both directions.
    pub caps: Caps,
    /// The largest call body or reply, in both directions.
    pub call_body: usize,
    /// Silence that ends the connection.
    pub idle: Duration,
    /// Interval of pings.
    pub keep_alive: Duration,
    /// Whether both sides report what they have read of a stream.
    pub progress: bool,
    /// Whether both sides take notices.
    pub notify: bool,
    /// Whether both sides report what they have read of calls and replies.
    pub numbered_calls: bool,
}

impl Terms {
    /// The features in force.
    fn features(&self) -> Vec<u32> {
        let known = [
            (self.progress, PROGRESS),
            (self.notify, NOTIFY),
            (self.numbered_calls, NUMBERED_CALLS),
        ];
        let in_force = known.into_iter().filter(|(in_force, _)| *in_force);
        in_force.map(|(_, number)| number).collect()
    }
}

/// An admitted connection, as the dialing side sees it.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// What was agreed.
    pub terms: Terms,
    /// The session.
    pub id: SessionId,
    /// What continues it, when it can be continued.
    pub ticket: Option<Ticket>,
    /// Whether it continues the session that was asked for.
    pub resumed: bool,
}

/// The dialing side's handshake.
#[derive(Debug)]
pub struct ClientHandshake {
    limits: Limits,
    resume: Option<Ticket>,
    beside: bool,
    deadline: Instant,
}

impl ClientHandshake {
    /// Begins now.
    pub fn new(limits: &Limits, resume: Option<Ticket>, now: Instant) -> Self {
        Self {
            limits: limits.clone(),
            resume,
            beside: false,
            deadline: now + limits.hello,
        }
    }

    /// Takes the session over from a connection that is well, and may end what is open on it.
    #[must_use]
    pub fn beside(mut self) -> Self {
        self.beside = true;
        self
    }

    /// The first bytes to send; `grease` is any random number.
    pub fn hello(&self, grease: u16) -> Bytes {
        let (session, secret) = match &self.resume {
            Some(ticket) => (ticket.id.0.to_vec().into(), ticket.secret.0.to_vec().into()),
            None => (Bytes::new(), Bytes::new()),
        };
        let hello = Hello {
            min_version: *VERSIONS.start(),
            max_version: *VERSIONS.end(),
            features: vec![PROGRESS, NOTIFY, NUMBERED_CALLS, grease_feature(grease)],
            limits: Some(announced(&self.limits)),
            build: BUILD.to_owned(),
            session,
            secret,
            beside: self.beside,
        };
        with_grease(&hello, grease)
    }

    /// When it fails at the latest.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes the server's answer.
    ///
    /// # Errors
    /// When the server refused, is late, or its answer does not fit what was offered.
    pub fn receive(&self, frame: Frame, now: Instant) -> Result<Welcome, HandshakeError> {
        if now >= self.deadline {
            return Err(HandshakeError::Slow);
        }
        if frame.kind == FrameType::Refuse {
            return Err(HandshakeError::Refused(Failure::from_frame(frame)?.into()));
        }
        let ack = HelloAck::from_frame(frame)?;
        if !VERSIONS.contains(&ack.version) {
            return Err(HandshakeError::Version {
                min: ack.version,
                max: ack.version,
            });
        }
        let id = session_id(&ack.session).ok_or_else(|| bad_ack("no session"))?;
        let resumed = ack.resumed;
        if resumed && self.resume.as_ref().map(|ticket| ticket.id) != Some(id) {
            return Err(bad_ack("it continues a session that was not asked for").into());
        }
        let ticket = secret(&ack.secret).map(|secret| Ticket { id, secret });
        let limits = ack.limits.unwrap_or_default();
        let terms = agree(&self.limits, ack.version, limits, &ack.features);
        Ok(Welcome {
            terms,
            id,
            ticket,
            resumed,
        })
    }
}

/// The accepting side's handshake.
#[derive(Debug)]
pub struct ServerHandshake {
    limits: Limits,
    deadline: Instant,
}

/// What a dialing peer asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is agreed when it is admitted.
    pub terms: Terms,
    /// The session it wants to continue.
    pub resume: Option<Ticket>,
    /// Whether the connection that carries that session now may end what is open on it.
    pub beside: bool,
}

impl ServerHandshake {
    /// Begins now; `limits` are those for this kind of peer.
    pub fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            limits: limits.clone(),
            deadline: now + limits.hello,
        }
    }

    /// When it fails at the latest.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes the peer's HELLO.
    ///
    /// # Errors
    /// When it is late, is not a HELLO, or there is no common version.
    pub fn receive(&self, frame: Frame, now: Instant) -> Result<Asked, HandshakeError> {
        if now >= self.deadline {
            return Err(HandshakeError::Slow);
        }
        let hello = Hello::from_frame(frame)?;
        let version = hello.max_version.min(*VERSIONS.end());
        if version < hello.min_version || !VERSIONS.contains(&version) {
            let (min, max) = (hello.min_version, hello.max_version);
            return Err(HandshakeError::Version { min, max });
        }
        let resume = match (session_id(&hello.session), secret(&hello.secret)) {
            (Some(id), Some(secret)) => Some(Ticket { id, secret }),
            _ => None,
        };
        let limits = hello.limits.unwrap_or_default();
        let terms = agree(&self.limits, version, limits, &hello.features);
        Ok(Asked {
            terms,
            resume,
            beside: hello.beside,
        })
    }

    /// The bytes that admit the peer; without `secret` the session cannot be continued.
    pub fn accept(
        &self,
        asked: &Asked,
        id: SessionId,
        secret: Option<&Secret>,
        resumed: bool,
        grease: u16,
    ) -> Bytes {
        let ack = HelloAck {
            version: asked.terms.version,
            features: asked.terms.features(),
            limits: Some(announced(&self.limits)),
            build: BUILD.to_owned(),
            session: id.0.to_vec().into(),
            secret: secret.map_or_else(Bytes::new, |secret| secret.0.to_vec().into()),
            resumed,
        };
        with_grease(&ack, grease)
    }

    /// The bytes that turn the peer away.
    pub fn refuse(error: &CallError) -> Bytes {
        Failure::from(error)
            .to_frame_as(FrameType::Refuse)
            .to_bytes()
    }
}

/// The limits for a peer without a certificate.
pub fn anonymous(limits: &Limits) -> Limits {
    Limits {
        control_frame: limits.anonymous_frame,
        data_frame: limits.anonymous_frame,
        call_body: limits.anonymous_frame,
        body_budget: limits.anonymous_frame * limits.anonymous_streams as usize,
        streams: limits.anonymous_streams,
        ..limits.clone()
    }
}

fn announced(limits: &Limits) -> WireLimits {
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let time = |time| u32::try_from(millis(time)).unwrap_or(u32::MAX);
    WireLimits {
        control_frame: size(limits.control_frame),
        data_frame: size(limits.data_frame),
        call_body: size(limits.call_body),
        idle_ms: time(limits.idle),
        keep_alive_ms: time(limits.keep_alive),
    }
}

fn agree(ours: &Limits, version: u32, theirs: WireLimits, features: &[u32]) -> Terms {
    let smaller = |ours: usize, theirs: u32| ours.min(theirs.max(FLOOR) as usize);
    let sooner = |ours: Duration, theirs: u32| match theirs {
        0 => ours,
        ms => ours.min(Duration::from_millis(ms.into())),
    };
    let keep_alive = sooner(ours.keep_alive, theirs.keep_alive_ms).max(MIN_KEEP_ALIVE);
    Terms {
        version,
        caps: Caps {
            control: smaller(ours.control_frame, theirs.control_frame),
            data: smaller(ours.data_frame, theirs.data_frame),
        },
        call_body: smaller(ours.call_body, theirs.call_body),
        idle: sooner(ours.idle, theirs.idle_ms).max(keep_alive * 2),
        keep_alive,
        progress: features.contains(&PROGRESS),
        notify: features.contains(&NOTIFY),
        // Reports of calls are reports: without them there is nothing to number for.
        numbered_calls: features.contains(&PROGRESS) && features.contains(&NUMBERED_CALLS),
    }
}

/// A feature number that means nothing.
fn grease_feature(seed: u16) -> u32 {
    0x1f * u32::from(seed) + 0x21
}

/// The message with a field that means nothing, then a frame that means nothing, so that every
/// peer keeps skipping both.
fn with_grease<M: Framed>(message: &M, seed: u16) -> Bytes {
    let mut payload = message.encode_to_vec();
    grease(&mut payload, seed);
    let frame = Frame {
        kind: M::FRAMES[0],
        payload: payload.into(),
    };
    let grease = Frame {
        kind: FrameType::grease(seed),
        payload: Bytes::copy_from_slice(&seed.to_be_bytes()),
    };
    let mut out = BytesMut::from(frame.to_bytes().as_ref());
    out.extend_from_slice(&grease.to_bytes());
    out.freeze()
}

fn session_id(bytes: &Bytes) -> Option<SessionId> {
    bytes.as_ref().try_into().ok().map(SessionId)
}

fn secret(bytes: &Bytes) -> Option<Secret> {
    bytes.as_ref().try_into().ok().map(Secret)
}

fn bad_ack(why: &str) -> WireError {
    WireError::Message {
        frame: FrameType::HelloAck,
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests;
