//! `rustci retry` in the cluster: makes a run that retries an ended one.
//! Must not choose the jobs that are taken over: the planner does.

use std::io::Write;

use crds::{Pipeline, PipelineRun, PipelineRunSpec, PipelineSpec};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use planner::reuse::{self, Library};

use super::connect::Cluster;
use super::start::attend;
use crate::args::RetryArguments;
use crate::failure::Failure;
use crate::retrial::refuse;
use crate::verdict::Verdict;

/// Starts the new run. Without `--wait` or `--follow` the command ends when the run exists.
pub async fn retry(arguments: &RetryArguments, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    let ended = cluster.run(&arguments.run).await?;
    let spec = PipelineRunSpec {
        retry_of: Some(arguments.retry_of()),
        suspend: false,
        cancel: false,
        ..ended.spec.clone()
    };
    let pipeline = pipeline(&cluster, &spec).await?;
    let others = used(&cluster, &pipeline).await?;
    refuse(&spec, &pipeline, &Library::of_pipelines(&others), &ended)?;
    let name = create(&cluster, spec, &ended).await?;
    attend(&cluster, &name, arguments.follow, arguments.wait, out).await
}

/// The pipeline as it is now.
async fn pipeline(cluster: &Cluster, spec: &PipelineRunSpec) -> Result<PipelineSpec, Failure> {
    if let Some(reference) = &spec.pipeline_ref {
        let name = &reference.name;
        let api: Api<Pipeline> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let read = api.get(name).await;
        let read = read.map_err(|error| cluster.failure("pipeline", name, &error))?;
        return Ok(read.spec);
    }
    Ok(spec.pipeline_spec.clone().unwrap_or_default())
}

/// The pipelines that it uses, as they are now and as far as they are there.
async fn used(cluster: &Cluster, spec: &PipelineSpec) -> Result<Vec<Pipeline>, Failure> {
    let api: Api<Pipeline> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut found = Vec::new();
    // A run that uses more is refused, so there is no need to look further.
    while found.len() <= reuse::MAX_PIPELINES {
        let before = found.len();
        for missing in reuse::missing(spec, &Library::of_pipelines(&found)) {
            let name = &missing.pipeline;
            let read = api.get_opt(name).await;
            found.extend(read.map_err(|error| cluster.failure("pipeline", name, &error))?);
        }
        if found.len() == before {
            break;
        }
    }
    Ok(found)
}

/// Creates the run; the API server completes its name.
async fn create(
    cluster: &Cluster,
    spec: PipelineRunSpec,
    ended: &PipelineRun,
) -> Result<String, Failure> {
    let reference = spec.pipeline_ref.as_ref();
    let stem = reference.map_or_else(|| ended.name_any(), |reference| reference.name.clone());
    let mut run = PipelineRun::new("", spec);
    run.metadata.name = None;
    run.metadata.generate_name = Some(format!("{stem}-"));
    let created = cluster.runs().create(&PostParams::default(), &run).await;
    let created = created.map_err(|error| cluster.failure("run", &ended.name_any(), &error))?;
    Ok(created.name_any())
}
