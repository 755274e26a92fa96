//! Judges an attempt by the containers beside the job's own: its services.
//! Must not judge the job's own container, nor what the agent says.

use std::time::Duration;

use crds::FailureClass;
use jiff::Timestamp;

use super::ending::Ending;
use super::observed::{
    CompanionEnd, CompanionFact, CompanionPhase, CompanionRole, OOM_KILLED, PlacePhase,
};
use super::outcome::{Attempt, Judgement};
use super::reason::JobReason;
use super::stuck::{Waiter, waiting};
use crate::duration;
use crate::validate::{ValidEnvValue, ValidService};

/// On top of a service's limit, which the kubelet enforces: one try may take so long, and the end
/// brings the last lines of its log.
pub(super) const SERVICE_GRACE: Duration = Duration::from_secs(15);
/// Ends before it is ready after which a service is given up; the kubelet starts it again at once
/// after the first.
const MAX_ENDS: u32 = 2;
/// Waiting reason of a container that has ended again and again.
const CRASH_LOOP: &str = "CrashLoopBackOff";
/// Of a service's log in a message: lines, and bytes.
const TAIL: (usize, usize) = (3, 400);

/// What keeps or ends the attempt, if anything does.
pub(super) fn judge(attempt: &Attempt<'_>, place: &PlacePhase) -> Option<Judgement> {
    let mut facts = attempt.companions.iter();
    match place {
        PlacePhase::Pending { .. } => facts.find_map(|fact| before(attempt, fact)),
        PlacePhase::Running { since } => facts.find_map(|fact| beside(attempt, fact, *since)),
        _ => None,
    }
}

/// What a failed step's message should say of services that ended meanwhile.
pub(super) fn aside(attempt: &Attempt<'_>) -> String {
    let ended = |(service, fact): (&ValidService, &CompanionFact)| {
        let end = fact.last_end.as_ref()?;
        let text = format!("; service `{}` {} meanwhile", service.spec.name, how(end));
        (end.at >= attempt.began()).then_some(text)
    };
    let facts = attempt.companions.iter();
    let known = facts.filter_map(|fact| Some((service(attempt, fact)?, fact)));
    known.filter_map(ended).collect()
}

/// Before the job's container can start.
fn before(attempt: &Attempt<'_>, fact: &CompanionFact) -> Option<Judgement> {
    let service = service(attempt, fact)?;
    let name = &service.spec.name;
    if let Some(end) = &fact.last_end {
        let is_slow = service.spec.readiness.is_some()
            && end.ran + service.period + Duration::from_secs(1) >= service.limit;
        if is_slow {
            return Some(Judgement::Ended(not_ready(service, Some(end))));
        }
        if fact.ends >= MAX_ENDS || is_crash_loop(fact) {
            let class = FailureClass::Configuration;
            return Some(Judgement::Ended(failed(
                service,
                end,
                class,
                "at its start",
            )));
        }
    }
    match &fact.phase {
        CompanionPhase::Pending | CompanionPhase::Ready => None,
        CompanionPhase::Waiting {
            reason,
            message,
            since,
        } => {
            let waiter = Waiter::Service(name, &fact.image);
            Some(waiting(attempt, waiter, reason, message, *since))
        }
        CompanionPhase::Starting { since } => Some(Judgement::Held {
            since: *since,
            limit: service.limit + SERVICE_GRACE,
            ending: not_ready(service, None),
            meanwhile: Some((
                JobReason::ServiceStarting,
                format!("service `{name}` is not ready yet"),
            )),
        }),
    }
}

/// While the job's container runs. A service that ended is started again, without what it held.
fn beside(attempt: &Attempt<'_>, fact: &CompanionFact, since: Timestamp) -> Option<Judgement> {
    let service = service(attempt, fact)?;
    let end = fact.last_end.as_ref()?;
    let has_ended = end.at > since || is_crash_loop(fact);
    let ending = || failed(service, end, FailureClass::User, "while the job ran");
    has_ended.then(|| Judgement::Ended(ending()))
}

fn service<'a>(attempt: &Attempt<'a>, fact: &CompanionFact) -> Option<&'a ValidService> {
    let CompanionRole::Service(name) = &fact.role;
    let mut services = attempt.job.services.iter();
    services.find(|service| service.spec.name == *name)
}

fn is_crash_loop(fact: &CompanionFact) -> bool {
    matches!(&fact.phase, CompanionPhase::Waiting { reason, .. } if reason == CRASH_LOOP)
}

fn not_ready(service: &ValidService, end: Option<&CompanionEnd>) -> Ending {
    let limit = duration::format(service.limit);
    let tail = end.map_or_else(String::new, |end| tail(service, end));
    let text = format!(
        "service `{}` was not ready within {limit}{tail}",
        service.spec.name
    );
    let class = FailureClass::Configuration;
    Ending::failed(JobReason::ServiceNotReady, class, text)
}

fn failed(service: &ValidService, end: &CompanionEnd, class: FailureClass, when: &str) -> Ending {
    let name = &service.spec.name;
    if end.reason == OOM_KILLED {
        let text = format!("service `{name}` used more memory than its container may");
        return Ending::failed(JobReason::ServiceFailed, FailureClass::OutOfMemory, text);
    }
    let text = format!("service `{name}` {} {when}{}", how(end), tail(service, end));
    Ending::failed(JobReason::ServiceFailed, class, text)
}

fn how(end: &CompanionEnd) -> String {
    format!("ended with exit code {}", end.exit_code)
}

/// The last lines of its log. Nobody masks a service's log, so there are none when it knows a
/// secret.
fn tail(service: &ValidService, end: &CompanionEnd) -> String {
    let is_secret = |value: &ValidEnvValue| matches!(value, ValidEnvValue::Source(source) if source.secret_key_ref.is_some());
    if service.env.iter().any(|entry| is_secret(&entry.value)) {
        return String::new();
    }
    let lines = end.message.lines().map(str::trim);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(TAIL.0)..].join(" | ");
    let start = last.ceil_char_boundary(last.len().saturating_sub(TAIL.1));
    match &last[start..] {
        "" => String::new(),
        text => format!(": {text}"),
    }
}
