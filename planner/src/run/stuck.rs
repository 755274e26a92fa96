//! Judges an attempt whose agent has not taken the job, by what keeps its place.
//! Must not judge places that run or have ended: that is the part of `outcome`.

use crds::FailureClass;
use jiff::Timestamp;

use super::ending::Ending;
use super::observed::{PlacePhase, RefusalKind};
use super::outcome::{Attempt, Judgement, colon, ended};
use super::reason::JobReason;

/// Before the agent has taken the offer the place tells how far it is.
pub(super) fn by_place(attempt: &Attempt<'_>, place: &PlacePhase) -> Judgement {
    match place {
        PlacePhase::Creating => starting(attempt, "its pod was not seen in time"),
        PlacePhase::Pending {
            scheduled: Some(false),
            message,
            ..
        } => {
            let message = format!("no node fits its pod: {message}");
            let class = FailureClass::Infrastructure;
            pending_trouble(
                attempt,
                Ending::failed(JobReason::Unschedulable, class, message),
            )
        }
        PlacePhase::Pending { message, .. } => starting(
            attempt,
            &format!("its pod did not start in time{}", colon(message)),
        ),
        PlacePhase::Waiting {
            reason,
            message,
            since,
        } => waiting(attempt, Waiter::Job, reason, message, *since),
        PlacePhase::Running { since } => Judgement::quiet(
            *since,
            attempt.settings.agent_connect_timeout,
            silent_agent(attempt),
        ),
        PlacePhase::Refused { kind, message, .. } => refused(attempt, *kind, message),
        PlacePhase::Ended { .. } | PlacePhase::Deleting { .. } | PlacePhase::Gone { .. } => {
            unreachable!("these end an attempt in any state and are judged first")
        }
    }
}

fn silent_agent(attempt: &Attempt<'_>) -> Ending {
    let text = if attempt.agent.is_some_and(|agent| agent.connected) {
        "its agent connected and did not take the job in time"
    } else {
        "its pod runs, but its agent did not connect in time: look at the pod's log, and whether \
         network policies let it reach the operator over UDP"
    };
    Ending::failed(
        JobReason::AgentNotConnected,
        FailureClass::Infrastructure,
        text,
    )
}

fn refused(attempt: &Attempt<'_>, kind: RefusalKind, message: &str) -> Judgement {
    let text = format!("the API server refused its pod: {message}");
    match kind {
        RefusalKind::Invalid | RefusalKind::Forbidden => {
            let class = FailureClass::Configuration;
            ended(attempt, Ending::failed(JobReason::PodRefused, class, text))
        }
        RefusalKind::Quota => {
            let ending = Ending::failed(JobReason::QuotaExceeded, FailureClass::Quota, text);
            pending_trouble(attempt, ending)
        }
        RefusalKind::Other => {
            let class = FailureClass::Infrastructure;
            pending_trouble(attempt, Ending::failed(JobReason::PodRefused, class, text))
        }
    }
}

/// Whose container waits.
#[derive(Clone, Copy)]
pub(super) enum Waiter<'a> {
    /// The job's own.
    Job,
    /// A service's, of this name and image.
    Service(&'a str, &'a str),
    /// That of steps with this image.
    StepImage(&'a str),
}

impl Waiter<'_> {
    fn image(self, attempt: &Attempt<'_>) -> String {
        match (self, &attempt.job.spec.image) {
            (Self::Job, None) => "its image".to_owned(),
            (Self::Job, Some(image)) => format!("image {image}"),
            (Self::Service(name, image), _) => format!("image {image} of service `{name}`"),
            (Self::StepImage(image), _) => format!("image {image} of a step"),
        }
    }

    /// Who uses the Secrets and ConfigMaps, and the container.
    fn words(self) -> (String, String) {
        match self {
            Self::Job => ("the job".to_owned(), "its container".to_owned()),
            Self::StepImage(image) => (
                "the job".to_owned(),
                format!("the container of image {image}"),
            ),
            Self::Service(name, _) => (
                format!("service `{name}`"),
                format!("the container of service `{name}`"),
            ),
        }
    }
}

/// Judges a container that the kubelet can't start.
pub(super) fn waiting(
    attempt: &Attempt<'_>,
    waiter: Waiter<'_>,
    reason: &str,
    message: &str,
    since: Timestamp,
) -> Judgement {
    let settings = attempt.settings;
    let (user, container) = waiter.words();
    let image_failure = || {
        let image = waiter.image(attempt);
        let text = format!("{image} can't be pulled ({reason}){}", colon(message));
        Ending::failed(JobReason::ImagePullFailed, FailureClass::ImagePull, text)
    };
    let configuration = |job_reason, text: &str| {
        let text = format!("{text} ({reason}){}", colon(message));
        Ending::failed(job_reason, FailureClass::Configuration, text)
    };
    match reason {
        // No retry of the kubelet changes these.
        "ErrImageNeverPull" | "InvalidImageName" => ended(attempt, image_failure()),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => {
            Judgement::trouble(since, settings.image_pull_grace, image_failure())
        }
        "CreateContainerConfigError" => {
            let text = format!("a Secret, ConfigMap or key that {user} uses is missing");
            let ending = configuration(JobReason::MissingReference, &text);
            Judgement::trouble(since, settings.missing_config_grace, ending)
        }
        "CreateContainerError"
        | "RunContainerError"
        | "StartError"
        | "ContainerCannotRun"
        | "PostStartHookError"
        | "CrashLoopBackOff" => {
            let text = format!("{container} can't start");
            let ending = configuration(JobReason::ContainerStartFailed, &text);
            Judgement::trouble(since, settings.missing_config_grace, ending)
        }
        _ => {
            let text = format!("its pod did not start in time ({reason}){}", colon(message));
            starting(attempt, &text)
        }
    }
}

/// The normal wait for a place.
pub(super) fn starting(attempt: &Attempt<'_>, message: &str) -> Judgement {
    let class = FailureClass::Infrastructure;
    let ending = Ending::failed(JobReason::PodStarting, class, message);
    Judgement::quiet(attempt.assigned, attempt.starting_limit(), ending)
}

fn pending_trouble(attempt: &Attempt<'_>, ending: Ending) -> Judgement {
    Judgement::trouble(attempt.assigned, attempt.pending_limit(), ending)
}
