//! The controller of pipelines: starts runs by their triggers, prunes old ones, says if it is valid.
//! Must not decide anything: the planner does.

use std::sync::Arc;

use crds::{Pipeline, PipelineRun, PipelineStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use planner::pipeline::{ObservedPipeline, PipelinePlan};
use serde_json::json;
use thiserror::Error;

use crate::caches::Caches;
use crate::library::{library, used};
use crate::pipeline_run::jittered;

/// Field manager of the statuses of pipelines and of the runs that they start.
pub const FIELD_MANAGER: &str = "rustci-operator-pipeline";

/// What the controller works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Local copies.
    pub caches: Arc<Caches>,
}

/// Why a reconcile has to be done again.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The run of a new generation could not be created.
    #[error("run {run} cannot be created")]
    CreateRun {
        /// Its name.
        run: String,
        /// Why.
        source: kube::Error,
    },
    /// An old run could not be deleted.
    #[error("run {run} cannot be deleted")]
    DeleteRun {
        /// Its name.
        run: String,
        /// Why.
        source: kube::Error,
    },
    /// The status could not be written.
    #[error("the status of pipeline {pipeline} cannot be written")]
    WriteStatus {
        /// The pipeline's name.
        pipeline: String,
        /// Why.
        source: kube::Error,
    },
}

/// Brings one pipeline a step further.
pub async fn reconcile(
    pipeline: &Arc<Pipeline>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, PipelineError> {
    let runs = runs_of(pipeline, &context.caches);
    let runs: Vec<_> = runs.iter().map(|run| &**run).collect();
    let namespace = pipeline.namespace().unwrap_or_default();
    let used = used(&pipeline.spec, &namespace, &context.caches.pipelines);
    let plan = planner::pipeline::plan(
        &ObservedPipeline {
            pipeline,
            runs: &runs,
            library: &library(&used),
        },
        now,
    );
    let PipelinePlan {
        create_runs,
        delete_runs,
        status,
        recheck,
    } = plan;
    for run in create_runs {
        // The status says that the run was started, so it waits for that.
        create(pipeline, run, context).await?;
    }
    let deleted = delete(pipeline, &delete_runs, context).await;
    report(pipeline, &status, context).await?;
    deleted?;
    Ok(recheck.map_or_else(Action::await_change, |wait| Action::requeue(jittered(wait))))
}

fn runs_of(pipeline: &Pipeline, caches: &Caches) -> Vec<Arc<PipelineRun>> {
    let name = pipeline.name_any();
    let mut runs = caches.runs_in(&pipeline.namespace().unwrap_or_default());
    runs.retain(|run| {
        run.spec
            .pipeline_ref
            .as_ref()
            .is_some_and(|by| by.name == name)
    });
    runs
}

async fn create(
    pipeline: &Pipeline,
    mut run: PipelineRun,
    context: &Context,
) -> Result<(), PipelineError> {
    let name = run.name_any();
    run.metadata.owner_references = Some(vec![OwnerReference {
        api_version: format!("{}/{}", crds::GROUP, crds::VERSION),
        kind: "Pipeline".to_owned(),
        name: pipeline.name_any(),
        uid: pipeline.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }]);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match runs(pipeline, context).create(&params, &run).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(PipelineError::CreateRun { run: name, source }),
    }
}

async fn delete(
    pipeline: &Pipeline,
    names: &[String],
    context: &Context,
) -> Result<(), PipelineError> {
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let api = runs(pipeline, context);
    let mut result = Ok(());
    for name in names {
        let deleted = match api.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(PipelineError::DeleteRun {
                run: name.clone(),
                source,
            }),
        };
        result = result.and(deleted);
    }
    result
}

async fn report(
    pipeline: &Pipeline,
    status: &PipelineStatus,
    context: &Context,
) -> Result<(), PipelineError> {
    let is_same =
        |old: &PipelineStatus| serde_json::to_value(old).ok() == serde_json::to_value(status).ok();
    if pipeline.status.as_ref().is_some_and(is_same) {
        return Ok(());
    }
    let name = pipeline.name_any();
    let body = json!({
        "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
        "kind": "Pipeline",
        "metadata": {"name": name, "uid": pipeline.metadata.uid,
            "resourceVersion": pipeline.metadata.resource_version},
        "status": status,
    });
    let api: Api<Pipeline> = Api::namespaced(
        context.client.clone(),
        &pipeline.namespace().unwrap_or_default(),
    );
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
        Ok(_) => Ok(()),
        // Changed or deleted meanwhile: the watch brings it again.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(PipelineError::WriteStatus {
            pipeline: name,
            source,
        }),
    }
}

fn runs(pipeline: &Pipeline, context: &Context) -> Api<PipelineRun> {
    Api::namespaced(
        context.client.clone(),
        &pipeline.namespace().unwrap_or_default(),
    )
}
