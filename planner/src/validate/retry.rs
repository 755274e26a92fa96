//! Checks of a job's retries.
//! Must not decide which failure is which.

use std::time::Duration;

use crds::{Backoff, Job, RaiseMemory, Retry, RetryOn};

use super::checker::{Checker, limit};
use super::{ValidRaise, ValidRetry};
use crate::quantity;

/// What is retried when `failures` is empty: nobody's fault in the pipeline.
const BY_DEFAULT: [RetryOn; 4] = [
    RetryOn::Infrastructure,
    RetryOn::ImagePull,
    RetryOn::Evicted,
    RetryOn::NodeLost,
];
const BASE: Duration = Duration::from_secs(5);
const FACTOR: u32 = 2;
const CAP: Duration = Duration::from_secs(5 * 60);

/// Checks how a job is retried.
pub(super) fn retry(check: &mut Checker, path: &str, job: &Job, retry: &Retry) -> ValidRetry {
    let Retry {
        limit: most,
        failures,
        backoff,
        on_out_of_memory,
    } = retry;
    range(
        check,
        &format!("{path}.limit"),
        Some(*most),
        1,
        limit::RETRIES,
    );
    let names: Vec<String> = failures.iter().map(|class| format!("{class:?}")).collect();
    check.unique(
        &format!("{path}.failures"),
        "class",
        names.iter().map(String::as_str),
    );
    let Backoff { base, factor, cap } = backoff.clone().unwrap_or_default();
    let at = format!("{path}.backoff");
    let base = check.duration(&format!("{at}.base"), base.as_deref());
    let cap = check.duration(&format!("{at}.cap"), cap.as_deref());
    range(check, &format!("{at}.factor"), factor, 1, 10);
    if base.unwrap_or(BASE) > cap.unwrap_or(CAP) {
        let remedy = "raise cap, or lower base";
        let message = "the first wait is longer than the longest one";
        check.add(&format!("{at}.base"), message, remedy);
    }
    let raise = on_out_of_memory
        .as_ref()
        .and_then(|raise| memory(check, &format!("{path}.onOutOfMemory"), job, raise));
    let on = match failures.is_empty() {
        true => &BY_DEFAULT,
        false => failures.as_slice(),
    };
    ValidRetry {
        limit: *most,
        on: on.iter().map(|class| class.class()).collect(),
        base: base.unwrap_or(BASE),
        factor: factor.unwrap_or(FACTOR),
        cap: cap.unwrap_or(CAP),
        raise,
    }
}

fn memory(check: &mut Checker, path: &str, job: &Job, raise: &RaiseMemory) -> Option<ValidRaise> {
    let RaiseMemory { factor, cap } = raise;
    range(check, &format!("{path}.factor"), *factor, 2, 10);
    let resources = job.pod.as_ref().and_then(|pod| pod.resources.as_ref());
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    if job.runner.is_none() && limits.is_none_or(|limits| !limits.contains_key("memory")) {
        let remedy = "set pod.resources.limits.memory";
        check.add(
            path,
            "the job has no memory limit that could be raised",
            remedy,
        );
    }
    let field = format!("{path}.cap");
    check.text(&field, cap, 1, 32);
    let Some(cap) = quantity::bytes(cap) else {
        let remedy = "write for example 8Gi";
        check.add(&field, format!("`{cap}` is no amount of memory"), remedy);
        return None;
    };
    let limit = limits.and_then(|limits| limits.get("memory"));
    if limit
        .and_then(|limit| quantity::bytes(&limit.0))
        .is_some_and(|limit| limit >= cap)
    {
        let message = "it is not above the job's memory limit, so nothing is ever raised";
        check.add(
            &field,
            message,
            "write more than pod.resources.limits.memory",
        );
    }
    let factor = factor.unwrap_or(FACTOR);
    Some(ValidRaise { factor, cap })
}

fn range(check: &mut Checker, field: &str, number: Option<u32>, min: u32, max: u32) {
    if number.is_some_and(|number| !(min..=max).contains(&number)) {
        let remedy = format!("use {min} to {max}");
        check.add(field, "the number is out of range", remedy);
    }
}
