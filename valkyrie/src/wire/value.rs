//! Small values that appear both on the wire and in the API: methods, classes, session ids.
//! Must not encode frames: `frame` does.

/// What a call or a stream is for; the application assigns the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(pub u32);

/// How urgent a call or a stream is. In this version it sets the stream's send priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 0: cancel, lease renewal, pings.
    Control,
    /// 1: offers, results.
    Job,
    /// 2: live logs.
    Log,
    /// 3: artifacts and everything large.
    Bulk,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Class; 4] = [Class::Control, Class::Job, Class::Log, Class::Bulk];

    /// The word used as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Class::Control => "control",
            Class::Job => "job",
            Class::Log => "log",
            Class::Bulk => "bulk",
        }
    }

    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Class::Control => 0,
            Class::Job => 1,
            Class::Log => 2,
            Class::Bulk => 3,
        }
    }

    /// The class of a number from the wire; an unknown one is served as bulk, never above.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Class::Control,
            1 => Class::Job,
            2 => Class::Log,
            _ => Class::Bulk,
        }
    }

    /// The send priority of its streams: a stream with a larger one goes first.
    pub fn priority(self) -> i32 {
        match self {
            Class::Control => 1000,
            Class::Job => 100,
            Class::Log => 10,
            Class::Bulk => -10,
        }
    }
}

/// The name of a session, chosen by the server; not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// Why a connection was closed; the number travels in the transport's close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 0: the session is over; do not resume it.
    Closed,
    /// 1: this end goes away; resume on the next connection.
    GoingAway,
    /// 2: the peer broke the protocol.
    Protocol,
    /// 3: the handshake was refused; the reason was sent before.
    Refused,
    /// 4: nothing was heard for too long.
    Silent,
    /// 5: a newer connection continues this session.
    Replaced,
    /// 6: too many connections or handshakes.
    Busy,
    /// 7: a certificate ended; connect again with a new one.
    Expired,
    /// 8: more of something than its rate allows; resume later.
    Excess,
    /// 9: the peer is denied; its session is over.
    Denied,
    /// Any other number, from a newer peer; treated like a broken connection.
    Unknown(u64),
}

impl CloseCode {
    /// Every code that has a meaning here, for tests and tools.
    pub const KNOWN: [CloseCode; 10] = [
        CloseCode::Closed,
        CloseCode::GoingAway,
        CloseCode::Protocol,
        CloseCode::Refused,
        CloseCode::Silent,
        CloseCode::Replaced,
        CloseCode::Busy,
        CloseCode::Expired,
        CloseCode::Excess,
        CloseCode::Denied,
    ];

    /// The number on the wire.
    pub fn number(self) -> u64 {
        match self {
            CloseCode::Closed => 0,
            CloseCode::GoingAway => 1,
            CloseCode::Protocol => 2,
            CloseCode::Refused => 3,
            CloseCode::Silent => 4,
            CloseCode::Replaced => 5,
            CloseCode::Busy => 6,
            CloseCode::Expired => 7,
            CloseCode::Excess => 8,
            CloseCode::Denied => 9,
            CloseCode::Unknown(number) => number,
        }
    }

    /// The code of a number from the wire.
    pub fn from_number(number: u64) -> Self {
        let known = Self::KNOWN
            .into_iter()
            .find(|known| known.number() == number);
        known.unwrap_or(CloseCode::Unknown(number))
    }
}
