//! One outgoing call over links that may break.
//! Must not do I/O: the endpoint drives it.

use std::time::Duration;

use crate::wire::Class;

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOptions {
    /// Time from now to the reply; the receiver is told what is left of it.
    pub deadline: Duration,
    /// Its urgency.
    pub class: Class,
    /// Whether it may be run twice: then it is sent again after its link broke.
    pub idempotent: bool,
}

impl CallOptions {
    /// A call of class `Job` that is not sent twice.
    pub fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            class: Class::Job,
            idempotent: false,
        }
    }

    /// The same call, sent again when its link breaks before the reply.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The same call in another class.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }
}
