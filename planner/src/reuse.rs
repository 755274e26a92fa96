//! The other pipelines that `uses` names: which are needed, and what of them a run keeps.
//! Must not check what is used: `validate` does.

use std::collections::{BTreeMap, BTreeSet};

use crds::{Job, Pipeline, PipelineSpec, Step, StepTemplate, TemplateUse, UsedPipeline};
use sha2::{Digest, Sha256};

/// Most levels of `uses` in `uses`.
pub const MAX_DEPTH: usize = 8;
/// Most pipelines that one run uses, what they use included.
pub const MAX_PIPELINES: usize = 64;
/// Most bytes of a run's pipeline with all that it uses, as JSON: the rest of the object is for the
/// status of the jobs.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The pipelines that `uses` may name, by their names.
#[derive(Clone, Debug, Default)]
pub struct Library<'a> {
    entries: BTreeMap<&'a str, Entry<'a>>,
    is_open: bool,
}

/// One pipeline of a library.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its uid; none in local mode.
    pub uid: Option<&'a str>,
    /// Its generation; none in local mode.
    pub generation: Option<i64>,
    /// Its spec.
    pub spec: &'a PipelineSpec,
}

/// A pipeline that is named and not there.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Missing {
    /// The name.
    pub pipeline: String,
    /// Who names it first, such as "job `unit`".
    pub user: String,
}

/// A job or a template that is used.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Item<'a> {
    Job(&'a str),
    Template(&'a str),
}

/// A reference, where `None` is the pipeline that it stands in.
type Reference<'a> = (Option<&'a str>, Item<'a>);

impl<'a> Library<'a> {
    /// A library that is not known here: what is used is not looked at.
    pub fn open() -> Self {
        Self {
            is_open: true,
            ..Self::default()
        }
    }

    /// Objects of the cluster.
    pub fn of_pipelines(pipelines: impl IntoIterator<Item = &'a Pipeline>) -> Self {
        let mut library = Self::default();
        for pipeline in pipelines {
            let entry = Entry {
                uid: pipeline.metadata.uid.as_deref(),
                generation: pipeline.metadata.generation,
                spec: &pipeline.spec,
            };
            library.add(pipeline.metadata.name.as_deref().unwrap_or_default(), entry);
        }
        library
    }

    /// The same, where a pipeline that is not in it may still come.
    #[must_use]
    pub fn opened(self) -> Self {
        Self {
            is_open: true,
            ..self
        }
    }

    /// What a run has kept.
    pub fn of(used: &'a [UsedPipeline]) -> Self {
        let mut library = Self::default();
        for kept in used {
            let entry = Entry {
                uid: kept.uid.as_deref(),
                generation: kept.generation,
                spec: &kept.spec,
            };
            library.add(&kept.pipeline, entry);
        }
        library
    }

    /// Adds a pipeline; the first one of a name counts.
    pub fn add(&mut self, name: &'a str, entry: Entry<'a>) {
        self.entries.entry(name).or_insert(entry);
    }

    /// The pipeline of a name.
    pub fn find(&self, name: &str) -> Option<&Entry<'a>> {
        self.entries.get(name)
    }

    /// True when a pipeline that is not in it may still be there.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The names of its pipelines.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + Clone {
        self.entries.keys().copied()
    }
}

/// True when a pipeline uses jobs or templates of others, or its own templates.
pub fn is_user(spec: &PipelineSpec) -> bool {
    !spec.step_templates.is_empty() || of_pipeline(spec).next().is_some()
}

/// The pipelines that are needed and not in the library, in the order of their names: what those
/// in turn need is known only when they are there.
pub fn missing(spec: &PipelineSpec, library: &Library<'_>) -> Vec<Missing> {
    let mut missing = BTreeMap::new();
    for (pipeline, user) in walk(spec, library).missing {
        missing.entry(pipeline).or_insert(user);
    }
    let missing = missing.into_iter();
    missing
        .map(|(pipeline, user)| Missing {
            pipeline: pipeline.to_owned(),
            user,
        })
        .collect()
}

/// The parts of other pipelines that are used, in the order of their names.
pub fn collect(spec: &PipelineSpec, library: &Library<'_>) -> Vec<UsedPipeline> {
    let mut parts: BTreeMap<&str, BTreeSet<Item<'_>>> = BTreeMap::new();
    for (pipeline, item) in walk(spec, library).seen {
        parts.entry(pipeline).or_default().insert(item);
    }
    let kept = parts.into_iter().filter_map(|(name, items)| {
        let entry = library.find(name)?;
        let spec = part(entry.spec, &items);
        Some(UsedPipeline {
            pipeline: name.to_owned(),
            uid: entry.uid.map(str::to_owned),
            generation: entry.generation,
            digest: digest(&spec),
            spec,
        })
    });
    kept.collect()
}

/// `sha256:` and the hash of a spec, written as JSON.
pub fn digest(spec: &PipelineSpec) -> String {
    let json = serde_json::to_vec(spec).expect("a spec is written as JSON");
    let hash = Sha256::digest(json);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The bytes of a run's pipeline with all that it uses, as JSON.
pub fn size(spec: &PipelineSpec, used: &[UsedPipeline]) -> usize {
    let of = |json: Result<Vec<u8>, _>| json.map_or(0, |json| json.len());
    of(serde_json::to_vec(spec)) + of(serde_json::to_vec(used))
}

/// The job of a pipeline, `finally` jobs included, with its place.
pub(crate) fn find_job<'a>(spec: &'a PipelineSpec, name: &str) -> Option<(String, &'a Job)> {
    let in_list = |list: &'a [Job], field: &str| {
        let index = list.iter().position(|job| job.name == name)?;
        Some((format!("spec.{field}[{index}]"), &list[index]))
    };
    in_list(&spec.jobs, "jobs").or_else(|| in_list(&spec.finally_jobs, "finally"))
}

/// The template of a pipeline, with its place.
pub(crate) fn find_template<'a>(
    spec: &'a PipelineSpec,
    name: &str,
) -> Option<(String, &'a StepTemplate)> {
    let list = &spec.step_templates;
    let index = list.iter().position(|template| template.name == name)?;
    Some((format!("spec.stepTemplates[{index}]"), &list[index]))
}

/// Follows a job to the one whose steps it has; none when that one is not known.
pub(crate) fn source<'a>(job: &'a Job, library: &Library<'a>) -> Option<&'a Job> {
    let mut job = job;
    for _ in 0..=MAX_DEPTH {
        let Some(uses) = &job.uses else {
            return Some(job);
        };
        job = find_job(library.find(&uses.pipeline)?.spec, &uses.job)?.1;
    }
    None
}

/// What a walk through all references has found.
#[derive(Default)]
struct Walk<'a> {
    seen: BTreeSet<(&'a str, Item<'a>)>,
    missing: Vec<(&'a str, String)>,
}

fn walk<'a>(spec: &'a PipelineSpec, library: &Library<'a>) -> Walk<'a> {
    let mut walk = Walk::default();
    // Where a reference stands, none for the pipeline itself, and who made it.
    let mut open: Vec<(Option<&str>, Reference<'a>, String)> = of_pipeline(spec)
        .map(|(user, reference)| (None, reference, user))
        .collect();
    open.reverse();
    while let Some((place, (named, item), user)) = open.pop() {
        // All templates of the pipeline itself have been looked at.
        let Some(pipeline) = named.or(place) else {
            continue;
        };
        let Some(entry) = library.find(pipeline) else {
            walk.missing.push((pipeline, user));
            continue;
        };
        if !walk.seen.insert((pipeline, item)) {
            continue;
        }
        let further = of_item(entry.spec, item);
        open.extend(further.map(|(user, reference)| {
            (Some(pipeline), reference, format!("{user} of `{pipeline}`"))
        }));
    }
    walk
}

fn of_pipeline(spec: &PipelineSpec) -> impl Iterator<Item = (String, Reference<'_>)> {
    let jobs = spec.jobs.iter().chain(&spec.finally_jobs);
    jobs.flat_map(of_job)
        .chain(spec.step_templates.iter().flat_map(of_template))
}

fn of_item<'a>(
    spec: &'a PipelineSpec,
    item: Item<'a>,
) -> Box<dyn Iterator<Item = (String, Reference<'a>)> + 'a> {
    match item {
        Item::Job(name) => {
            let found = find_job(spec, name).into_iter();
            Box::new(found.flat_map(|(_, job)| of_job(job)))
        }
        Item::Template(name) => {
            let found = find_template(spec, name).into_iter();
            Box::new(found.flat_map(|(_, template)| of_template(template)))
        }
    }
}

fn of_job(job: &Job) -> impl Iterator<Item = (String, Reference<'_>)> {
    let user = format!("job `{}`", job.name);
    let own = (job.uses.iter()).map(|uses| (Some(&*uses.pipeline), Item::Job(&uses.job)));
    own.chain(of_steps(&job.steps))
        .map(move |reference| (user.clone(), reference))
}

fn of_template(template: &StepTemplate) -> impl Iterator<Item = (String, Reference<'_>)> {
    let user = format!("template `{}`", template.name);
    of_steps(&template.steps).map(move |reference| (user.clone(), reference))
}

fn of_steps(steps: &[Step]) -> impl Iterator<Item = Reference<'_>> {
    let uses = steps.iter().filter_map(|step| step.uses.as_ref());
    uses.map(|TemplateUse { pipeline, template }| (pipeline.as_deref(), Item::Template(template)))
}

/// A pipeline with no more than these items, and what goes with them.
fn part(spec: &PipelineSpec, items: &BTreeSet<Item<'_>>) -> PipelineSpec {
    let jobs = |list: &[Job]| -> Vec<Job> {
        let used = list
            .iter()
            .filter(|job| items.contains(&Item::Job(&job.name)));
        used.cloned().collect()
    };
    let (jobs, finally_jobs) = (jobs(&spec.jobs), jobs(&spec.finally_jobs));
    let has_job = !(jobs.is_empty() && finally_jobs.is_empty());
    let templates = spec.step_templates.iter();
    let templates = templates.filter(|one| items.contains(&Item::Template(&one.name)));
    PipelineSpec {
        params: if has_job {
            spec.params.clone()
        } else {
            Vec::new()
        },
        env: if has_job {
            spec.env.clone()
        } else {
            Vec::new()
        },
        jobs,
        finally_jobs,
        step_templates: templates.cloned().collect(),
        ..PipelineSpec::default()
    }
}

#[cfg(test)]
mod tests;
