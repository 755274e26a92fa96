//! Checks a run that is to retry another before it is made, with the planner's words.
//! Must not make the run.

use crds::{PipelineRun, PipelineRunSpec, PipelineSpec};
use planner::reuse::Library;
use planner::run::{Retrial, take_over};
use planner::validate::{Problem, validate_pipeline_with};

use crate::failure::Failure;

/// Says at once what the run would say, so that none is made in vain.
pub fn refuse(
    spec: &PipelineRunSpec,
    pipeline: &PipelineSpec,
    library: &Library<'_>,
    ended: &PipelineRun,
) -> Result<(), Failure> {
    let wrong = |problems: Vec<Problem>| {
        let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
        Failure::usage(lines.join("\n"))
    };
    let params = planner::params::resolve(&pipeline.params, &spec.params).map_err(wrong)?;
    let retrial = Retrial {
        spec,
        pipeline: &validate_pipeline_with(pipeline, library).map_err(wrong)?,
        params: &params,
    };
    take_over(&retrial, Some(ended))
        .map(drop)
        .map_err(Failure::usage)
}
