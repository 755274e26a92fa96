//! Judges an attempt by the containers beside the job's own: services, and those of steps with
//! another image.
//! Must not judge the job's own container, nor what the agent says.

use std::time::Duration;

use crds::FailureClass;
use jiff::Timestamp;

use super::ending::Ending;
use super::observed::{
    CompanionEnd, CompanionFact, CompanionPhase, CompanionRole, OOM_KILLED, PlacePhase,
};
use super::outcome::{Attempt, Judgement, colon};
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
    if fact.role == CompanionRole::StepImage {
        return step_image(attempt, fact);
    }
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
    if fact.role == CompanionRole::StepImage {
        return step_image(attempt, fact);
    }
    let service = service(attempt, fact)?;
    let end = fact.last_end.as_ref()?;
    let has_ended = end.at > since || is_crash_loop(fact);
    let ending = || failed(service, end, FailureClass::User, "while the job ran");
    has_ended.then(|| Judgement::Ended(ending()))
}

/// A container for steps with another image. Once the agent has taken the job, it says itself what
/// a step needs of it.
fn step_image(attempt: &Attempt<'_>, fact: &CompanionFact) -> Option<Judgement> {
    if attempt.is_taken() {
        return None;
    }
    if let Some(end) = &fact.last_end {
        let reason = &end.reason;
        let text = format!(
            "the container of image {} can't start ({reason}){}",
            fact.image,
            colon(end.message.trim())
        );
        let (reason, class) = (JobReason::ContainerStartFailed, FailureClass::Configuration);
        return Some(Judgement::Ended(Ending::failed(reason, class, text)));
    }
    match &fact.phase {
        CompanionPhase::Waiting {
            reason,
            message,
            since,
        } => {
            let waiter = Waiter::StepImage(&fact.image);
            Some(waiting(attempt, waiter, reason, message, *since))
        }
        _ => None,
    }
}

/// What it means that the other container of a step ended while the step ran. The kubelet tells why
/// a moment after the agent has told that.
pub(super) fn lost(attempt: &Attempt<'_>, step: &str) -> Judgement {
    let ended = attempt.companions.iter().find_map(|fact| {
        let end = fact.last_end.as_ref()?;
        (fact.role == CompanionRole::StepImage).then_some((fact, end))
    });
    let (reason, class) = (JobReason::AgentLost, FailureClass::Infrastructure);
    match ended {
        Some((_, end)) if end.reason == OOM_KILLED => {
            let text = format!("step `{step}` used more memory than the container may");
            let (reason, class) = (JobReason::OutOfMemory, FailureClass::OutOfMemory);
            Judgement::Ended(Ending::failed(reason, class, text))
        }
        Some((fact, end)) => {
            let (image, how) = (&fact.image, how(end));
            let text = format!("the container of image {image} {how} while step `{step}` ran");
            Judgement::Ended(Ending::failed(reason, class, text))
        }
        None => {
            let text = format!("the container of step `{step}` ended while it ran");
            let ending = Ending::failed(reason, class, text);
            match attempt.place.is_some_and(PlacePhase::is_alive) {
                true => {
                    Judgement::trouble(attempt.last_sign(), attempt.settings.backstop_grace, ending)
                }
                false => Judgement::Ended(ending),
            }
        }
    }
}

fn service<'a>(attempt: &Attempt<'a>, fact: &CompanionFact) -> Option<&'a ValidService> {
    let CompanionRole::Service(name) = &fact.role else {
        return None;
    };
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
