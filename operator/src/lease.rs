//! The leader's lease: what to write next, as a pure function.
//! Must not read a clock nor talk to the cluster: `lease::keeper` does that.

pub mod keeper;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// How often an instance that waits looks whether the lease was given up.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Who wants the lease, and for how long at a time.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Name of this instance.
    pub identity: String,
    /// Time after the last renewal at which others may take over.
    pub duration: Duration,
}

/// What to do about the lease now.
#[derive(Clone, Debug, PartialEq)]
pub enum NextLease {
    /// Write this with `replace`: success means that the lease is ours until `duration` from now.
    Write(Box<LeaseSpec>),
    /// Another instance holds it; look again after this time.
    Wait(Duration),
}

/// The next write for a candidate that has seen `current` unchanged since `unchanged_since`.
///
/// Another holder's lease counts as over when it has not changed for its duration on our own
/// clock, so that clocks need not agree (as in client-go's leader election).
pub fn next_lease(
    current: Option<&LeaseSpec>,
    unchanged_since: Timestamp,
    candidate: &Candidate,
    now: Timestamp,
) -> NextLease {
    let holder = current
        .and_then(|lease| lease.holder_identity.as_deref())
        .unwrap_or_default();
    let transitions = current
        .and_then(|lease| lease.lease_transitions)
        .unwrap_or_default();
    if holder == candidate.identity {
        let acquired = current.and_then(|lease| lease.acquire_time.clone());
        return NextLease::Write(Box::new(held(candidate, acquired, transitions, now)));
    }
    let seconds = current
        .and_then(|lease| lease.lease_duration_seconds)
        .unwrap_or_default();
    let over = unchanged_since + SignedDuration::from_secs(i64::from(seconds.max(0)));
    if holder.is_empty() || now >= over {
        let transitions = if current.is_some() {
            transitions.saturating_add(1)
        } else {
            0
        };
        return NextLease::Write(Box::new(held(candidate, None, transitions, now)));
    }
    let rest = Duration::try_from(over.duration_since(now)).unwrap_or_default();
    NextLease::Wait(rest.min(LOOK_INTERVAL))
}

/// The lease without a holder, so that the next instance takes it at once.
pub fn released(current: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        ..current.clone()
    }
}

/// How often a holder renews.
pub fn renew_interval(duration: Duration) -> Duration {
    duration / 5
}

/// How long a holder goes on without a successful renewal: well below the lease's duration, so
/// that it has stopped before another instance starts.
pub fn renew_deadline(duration: Duration) -> Duration {
    duration * 2 / 3
}

fn held(
    candidate: &Candidate,
    acquired: Option<MicroTime>,
    transitions: i32,
    now: Timestamp,
) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(candidate.identity.clone()),
        lease_duration_seconds: Some(
            i32::try_from(candidate.duration.as_secs()).unwrap_or(i32::MAX),
        ),
        acquire_time: acquired.or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn candidate(identity: &str) -> Candidate {
        Candidate {
            identity: identity.to_owned(),
            duration: Duration::from_secs(15),
        }
    }

    fn written(next: NextLease) -> LeaseSpec {
        match next {
            NextLease::Write(lease) => *lease,
            NextLease::Wait(rest) => panic!("expected a write, got a wait of {rest:?}"),
        }
    }

    #[test]
    fn a_missing_lease_is_taken() {
        let lease = written(next_lease(None, at(0), &candidate("north"), at(0)));
        assert_eq!(lease.holder_identity.as_deref(), Some("north"));
        assert_eq!(lease.lease_transitions, Some(0));
    }

    #[test]
    fn the_holder_renews_and_keeps_its_acquire_time() {
        let first = written(next_lease(None, at(0), &candidate("north"), at(0)));
        let second = written(next_lease(Some(&first), at(0), &candidate("north"), at(5)));
        assert_eq!(second.acquire_time, first.acquire_time);
        assert_eq!(second.renew_time, Some(MicroTime(at(5))));
    }

    #[test]
    fn another_instance_waits_until_the_lease_is_over_on_its_own_clock() {
        let lease = written(next_lease(None, at(-900), &candidate("north"), at(-900)));
        let south = candidate("south");
        // Seen for the first time at 0: the holder's own, older clock does not count.
        assert_eq!(
            next_lease(Some(&lease), at(0), &south, at(1)),
            NextLease::Wait(LOOK_INTERVAL)
        );
        assert_eq!(
            next_lease(Some(&lease), at(0), &south, at(14)),
            NextLease::Wait(LOOK_INTERVAL)
        );
        let taken = written(next_lease(Some(&lease), at(0), &south, at(15)));
        assert_eq!(taken.holder_identity.as_deref(), Some("south"));
        assert_eq!(taken.lease_transitions, Some(1));
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let lease = written(next_lease(None, at(0), &candidate("north"), at(0)));
        let free = released(&lease, at(2));
        let taken = written(next_lease(Some(&free), at(2), &candidate("south"), at(2)));
        assert_eq!(taken.holder_identity.as_deref(), Some("south"));
    }

    #[test]
    fn a_holder_gives_up_before_another_can_start() {
        let duration = Duration::from_secs(15);
        assert!(renew_deadline(duration) + renew_interval(duration) < duration);
    }
}
