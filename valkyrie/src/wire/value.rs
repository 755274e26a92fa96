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
