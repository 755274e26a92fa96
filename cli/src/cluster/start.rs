//! `rustci start`: makes a run of a Pipeline, and waits for it or shows it on demand.
//! Must not check what the API server and the operator check.

use std::io::Write;

use crds::{Pipeline, PipelineRef, PipelineRun, PipelineRunSpec};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::connect::Cluster;
use super::logs::follow;
use super::watch::wait;
use crate::args::StartArguments;
use crate::failure::Failure;
use crate::output::screen::Screen;
use crate::output::text::TextPrinter;
use crate::params;
use crate::verdict::Verdict;
use crate::view::Selection;

/// Starts a run. Without `--wait` or `--follow` the command ends when the run exists.
pub async fn start(arguments: &StartArguments, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    let name = create(&cluster, arguments).await?;
    attend(&cluster, &name, arguments.follow, arguments.wait, out).await
}

/// Shows a new run, waits for it, or only tells its name.
pub(super) async fn attend(
    cluster: &Cluster,
    name: &str,
    shows: bool,
    waits: bool,
    out: &mut dyn Write,
) -> Result<Verdict, Failure> {
    if shows {
        let printer = Box::new(TextPrinter::new(Screen::stdout()));
        return follow(cluster, name, printer, Selection::default()).await;
    }
    writeln!(out, "{name}").map_err(|error| Failure::infrastructure(error.to_string()))?;
    if !waits {
        return Ok(Verdict::Succeeded);
    }
    let verdict = wait(cluster, name).await?;
    let ended = writeln!(out, "run {name} {}", verdict.word());
    ended.map_err(|error| Failure::infrastructure(error.to_string()))?;
    Ok(verdict)
}

/// Creates the run; the API server completes its name.
async fn create(cluster: &Cluster, arguments: &StartArguments) -> Result<String, Failure> {
    let name = &arguments.pipeline;
    let pipelines: Api<Pipeline> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let pipeline = pipelines.get(name).await;
    let pipeline = pipeline.map_err(|error| cluster.failure("pipeline", name, &error))?;
    let spec = PipelineRunSpec {
        pipeline_ref: Some(PipelineRef { name: name.clone() }),
        params: params::parse(&pipeline.spec.params, &arguments.params)?,
        env: params::env(Vec::new(), &arguments.env),
        ..PipelineRunSpec::default()
    };
    let mut run = PipelineRun::new("", spec);
    run.metadata.name = None;
    run.metadata.generate_name = Some(format!("{name}-"));
    let created = cluster.runs().create(&PostParams::default(), &run).await;
    let created = created.map_err(|error| cluster.failure("pipeline", name, &error))?;
    Ok(created.name_any())
}
