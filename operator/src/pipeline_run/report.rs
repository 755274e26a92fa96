//! Writes a run's status, if it has changed: server-side apply that fails if somebody else wrote.
//! Must not change what the plan says.

use std::time::Duration;

use crds::PipelineRun;
use kube::api::{Api, Patch, PatchParams};
use planner::run::{Plan, Verdict, Write, status_urgency, verdict};
use serde_json::json;

use super::observe::Facts;
use super::{Context, FIELD_MANAGER, RunError};
use crate::caches::is_finished;
use crate::metrics::{OfVerdict, VerdictLabel};

/// What became of a status.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reported {
    /// It is durable now.
    Written,
    /// It is what the API server has.
    Unchanged,
    /// Only progress, to be written after this time.
    Later(Duration),
}

impl Reported {
    /// When to look again.
    pub(super) fn recheck(self) -> Option<Duration> {
        match self {
            Self::Later(wait) => Some(wait),
            Self::Written | Self::Unchanged => None,
        }
    }
}

/// Writes the plan's status as soon as it must be.
pub(super) async fn report(
    facts: &Facts,
    plan: &Plan,
    context: &Context,
) -> Result<Reported, RunError> {
    if !facts.is_whole {
        return Ok(Reported::Unchanged);
    }
    let wait = match status_urgency(facts.run.status.as_ref(), &plan.status) {
        Write::None => return Ok(Reported::Unchanged),
        Write::Later(interval) => {
            let since = context.memory.since_write(&facts.uid);
            interval.saturating_sub(since.unwrap_or(Duration::MAX))
        }
        Write::Soon(delay) => delay.saturating_sub(context.memory.due(&facts.uid)),
        Write::Now => Duration::ZERO,
    };
    if !wait.is_zero() {
        return Ok(Reported::Later(wait));
    }
    let written = write(facts, plan, context).await?;
    if is_finished(&written) && !is_finished(&facts.run) {
        count(plan, context);
    }
    context.memory.wrote(&facts.uid, written);
    Ok(Reported::Written)
}

async fn write(facts: &Facts, plan: &Plan, context: &Context) -> Result<PipelineRun, RunError> {
    let api: Api<PipelineRun> = Api::namespaced(context.client.clone(), &facts.namespace);
    let body = json!({
        "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
        "kind": "PipelineRun",
        "metadata": {
            "name": facts.name,
            "namespace": facts.namespace,
            "uid": facts.uid,
            // Compare and swap: a status planned from an old state is never written.
            "resourceVersion": facts.run.metadata.resource_version,
        },
        "status": plan.status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api
        .patch_status(&facts.name, &params, &Patch::Apply(&body))
        .await
    {
        Ok(written) => Ok(written),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            context.memory.lost(&facts.uid);
            Err(RunError::Conflict {
                run: facts.name.clone(),
            })
        }
        Err(source) => Err(RunError::WriteStatus {
            run: facts.name.clone(),
            source,
        }),
    }
}

fn count(plan: &Plan, context: &Context) {
    let verdict = match verdict(&plan.status) {
        Verdict::Running => return,
        Verdict::Succeeded => VerdictLabel::Succeeded,
        Verdict::Failed => VerdictLabel::Failed,
        Verdict::Cancelled => VerdictLabel::Cancelled,
        Verdict::TimedOut => VerdictLabel::TimedOut,
        Verdict::Infrastructure => VerdictLabel::Infrastructure,
    };
    context
        .metrics
        .runs
        .get_or_create(&OfVerdict { verdict })
        .inc();
}
