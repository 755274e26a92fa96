//! `rustci cancel`: asks the operator to stop a run.
//! Must not stop anything itself.

use std::io::Write;

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::connect::{Cluster, status};
use crate::args::CancelArguments;
use crate::failure::Failure;
use crate::verdict::Verdict;

/// Sets `spec.cancel` of a run. A run that has ended is left alone.
pub async fn cancel(arguments: &CancelArguments, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    let name = &arguments.run;
    let run = cluster.run(name).await?;
    let text = match Verdict::of(&status(&run)) {
        Some(verdict) => format!("run {name} has ended before: {}", verdict.word()),
        None => {
            let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
            let patched = cluster
                .runs()
                .patch(name, &PatchParams::default(), &patch)
                .await;
            patched.map_err(|error| cluster.failure("run", name, &error))?;
            format!("run {name} is being cancelled; its finally jobs still run")
        }
    };
    writeln!(out, "{text}").map_err(|error| Failure::infrastructure(error.to_string()))?;
    Ok(Verdict::Succeeded)
}
