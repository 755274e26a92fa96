//! One outgoing call over links that may break.
//! Must not do I/O: the endpoint drives it.

use std::time::{Duration, Instant};

use crate::error::{CallError, Code};
use crate::trace::TraceContext;
use crate::wire::Class;

/// How a call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOptions {
    /// Time from now to the reply; the receiver is told what is left of it.
    pub deadline: Duration,
    /// Its urgency.
    pub class: Class,
    /// Whether it may be run twice: then it is sent again after its link broke.
    pub idempotent: bool,
    /// Who shares the class fairly with others; none for a call by itself.
    pub tenant: Option<u64>,
    /// The trace it belongs to; none for that of the call that is being handled, if there is one.
    pub trace: Option<TraceContext>,
}

impl CallOptions {
    /// A call of class `Job` that is not sent twice.
    pub fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            class: Class::Job,
            idempotent: false,
            tenant: None,
            trace: None,
        }
    }

    /// The same call, on behalf of this tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: u64) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The same call, as part of this trace.
    #[must_use]
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
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

/// A call from its start to its only outcome. A call that is not idempotent leaves on one link
/// at most.
#[derive(Clone, Debug)]
pub struct Call {
    deadline: Instant,
    idempotent: bool,
    sent: bool,
}

impl Call {
    /// A call that begins now.
    pub fn new(options: &CallOptions, now: Instant) -> Self {
        let deadline = now.checked_add(options.deadline).unwrap_or(now + FAR);
        Self {
            deadline,
            idempotent: options.idempotent,
            sent: false,
        }
    }

    /// When it fails at the latest.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A link is up and the call is about to leave on it: the time it has left.
    ///
    /// # Errors
    /// When the deadline has passed; nothing is to be sent.
    pub fn send(&mut self, now: Instant) -> Result<Duration, CallError> {
        match self.deadline.checked_duration_since(now) {
            Some(left) if !left.is_zero() => {
                self.sent = true;
                Ok(left)
            }
            _ => Err(self.expired()),
        }
    }

    /// The link broke before the reply: `Ok` to wait for the next link and send again.
    ///
    /// # Errors
    /// When it may not be sent twice, or its deadline has passed.
    pub fn lost(&self, now: Instant) -> Result<(), CallError> {
        if self.sent && !self.idempotent {
            let detail = "the connection broke before the reply; the call may have been run";
            return Err(CallError::unavailable(detail));
        }
        if now >= self.deadline {
            Err(self.expired())
        } else {
            Ok(())
        }
    }

    /// How it fails when its deadline passes.
    pub fn expired(&self) -> CallError {
        let detail = if self.sent {
            "no reply in time"
        } else {
            "no connection in time"
        };
        CallError {
            retryable: true,
            ..CallError::new(Code::DeadlineExceeded, detail)
        }
    }
}

/// Stands for a deadline beyond the clock's range.
const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: Instant, secs: u64) -> Instant {
        base + Duration::from_secs(secs)
    }

    #[test]
    fn an_idempotent_call_is_sent_again_until_its_deadline() {
        let base = Instant::now();
        let options = CallOptions::new(Duration::from_secs(10)).idempotent();
        let mut call = Call::new(&options, base);
        assert_eq!(call.send(base), Ok(Duration::from_secs(10)));
        assert_eq!(call.lost(at(base, 4)), Ok(()));
        assert_eq!(call.send(at(base, 6)), Ok(Duration::from_secs(4)));
        assert_eq!(
            call.lost(at(base, 10)).unwrap_err().code,
            Code::DeadlineExceeded
        );
        assert_eq!(
            call.send(at(base, 11)).unwrap_err().code,
            Code::DeadlineExceeded
        );
    }

    #[test]
    fn a_call_that_is_not_idempotent_fails_once_it_may_have_been_run() {
        let base = Instant::now();
        let mut call = Call::new(&CallOptions::new(Duration::from_secs(10)), base);
        assert_eq!(call.lost(base), Ok(()), "it has not left yet");
        call.send(base).unwrap();
        let error = call.lost(at(base, 1)).unwrap_err();
        assert_eq!((error.code, error.retryable), (Code::Unavailable, true));
    }

    #[test]
    fn an_endless_deadline_does_not_overflow() {
        let call = Call::new(&CallOptions::new(Duration::MAX), Instant::now());
        assert!(call.deadline() > Instant::now());
    }
}
