//! What the user of a job writes counts instead of the used job's, field by field.
//! Must not check values: both sides have been.

use crds::Job;

use super::ValidJob;
use super::checker::Checker;
use crate::pod;

/// A used job with what its user has written. `user` has no steps and no outputs.
pub(super) fn overlay(check: &mut Checker, path: &str, user: ValidJob, used: ValidJob) -> ValidJob {
    if user.matrix.is_some() && used.matrix.is_some() {
        let remedy = "remove it, or use a job without one";
        let message = "the job that is used has a matrix of its own";
        check.add(&format!("{path}.matrix"), message, remedy);
    }
    let has_selector = !user.node_selector.is_empty();
    let has_services = !user.services.is_empty();
    let spec = merged(user.spec, &used.spec);
    ValidJob {
        spec,
        is_finally: user.is_finally,
        when: user.when.or(used.when),
        matrix: user.matrix.or(used.matrix),
        approval: user.approval.or(used.approval),
        image: user.image.or(used.image),
        node_selector: if has_selector {
            user.node_selector
        } else {
            used.node_selector
        },
        services: if has_services {
            user.services
        } else {
            used.services
        },
        timeout: user.timeout.or(used.timeout),
        pending_timeout: user.pending_timeout.or(used.pending_timeout),
        ..used
    }
}

fn merged(user: Job, used: &Job) -> Job {
    let has_services = !user.services.is_empty();
    let used = used.clone();
    Job {
        name: user.name,
        needs: user.needs,
        uses: user.uses,
        with: user.with,
        runner: user.runner.or(used.runner),
        image: user.image.or(used.image),
        when: user.when.or(used.when),
        approval: user.approval.or(used.approval),
        matrix: user.matrix.or(used.matrix),
        continue_on_error: user.continue_on_error || used.continue_on_error,
        services: if has_services {
            user.services
        } else {
            used.services
        },
        timeout: user.timeout.or(used.timeout),
        retry: user.retry.or(used.retry),
        pod: match (used.pod, user.pod) {
            (Some(defaults), Some(own)) => Some(pod::merge(defaults, own)),
            (used, user) => user.or(used),
        },
        env: used.env.into_iter().chain(user.env).collect(),
        ..used
    }
}
