//! `rustci plan`: what a run of a pipeline would do, without running it.
//! Must not start anything, nor look at a cluster.

mod draw;
mod known;
mod planned;
mod text;

use std::io::Write;

use crds::{NamedValue, ParamValue};
use planner::validate::{Problem, validate_pipeline_with};

use self::planned::Planned;
use crate::args::{PlanArguments, PlanOutput};
use crate::failure::Failure;
use crate::library::Shelf;
use crate::manifest::Manifest;
use crate::verdict::Verdict;
use crate::{lint, params};

/// Prints the plan of a pipeline of a file.
pub fn plan(arguments: &PlanArguments, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let shelf = Shelf::new(&arguments.library);
    lint::refuse_mistakes(&arguments.file, &shelf)?;
    let planned = read(arguments, &shelf)?;
    let text = match arguments.output {
        PlanOutput::Text => text::text(&planned),
        PlanOutput::Mermaid => draw::mermaid(&planned),
        PlanOutput::Dot => draw::dot(&planned),
        PlanOutput::Json => {
            let json = serde_json::to_string_pretty(&planned);
            json.expect("a plan has only texts and numbers") + "\n"
        }
    };
    out.write_all(text.as_bytes())
        .map_err(|error| Failure::infrastructure(format!("cannot print: {error}")))?;
    Ok(Verdict::Succeeded)
}

fn read(arguments: &PlanArguments, shelf: &Shelf) -> Result<Planned, Failure> {
    let mut manifest = Manifest::default();
    let text = manifest.load(&arguments.file)?;
    let selected = manifest.select(arguments.pipeline.as_deref())?;
    let declared = &selected.spec.params;
    let given = params::parse(declared, &arguments.params)?;
    let of_run = selected.run.as_ref().map(|run| run.spec.params.as_slice());
    let values = chosen(of_run.unwrap_or_default(), given);
    let values = planner::params::resolve(declared, &values)
        .map_err(|problems| Failure::usage(sentences(&problems)))?;
    let others = shelf.around(&arguments.file, &text);
    let valid = validate_pipeline_with(&selected.spec, &others.library())
        .map_err(|problems| Failure::usage(sentences(&problems)))?;
    Ok(Planned::new(&selected.pipeline, &valid, &values))
}

/// The run's values, the command line's in their place.
fn chosen(
    of_run: &[NamedValue<ParamValue>],
    given: Vec<NamedValue<ParamValue>>,
) -> Vec<NamedValue<ParamValue>> {
    let stays = |value: &&NamedValue<ParamValue>| given.iter().all(|new| new.name != value.name);
    let mut values: Vec<_> = of_run.iter().filter(stays).cloned().collect();
    values.extend(given);
    values
}

fn sentences(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
