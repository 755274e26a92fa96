//! What is known of a run now: from the caches, the operator's own memory and the hub.
//! Must not change anything in the cluster.

use std::sync::Arc;
use std::time::Duration;

use crds::{JobStatus, Pipeline, PipelineRun, PipelineRunStatus, PipelineSpec, Runner};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::Api;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use planner::reuse;
use planner::run::{
    AgentFact, JobReason, Observed, PipelineFact, PlaceFact, PlacePhase, Plan, PoolFact, Prepared,
    Rival,
};
use tokio::time::Instant;

use super::memory::PlaceMemory;
use super::phase::{companions, disruption, place_phase, termination_message};
use super::{Context, RunError};
use crate::caches::{controlling_run, is_finished};
use crate::library::{self, library};

/// How long a created pod may take to be seen in the cache before it is looked up.
const CACHE_PATIENCE: Duration = Duration::from_secs(5);

/// Reasons of jobs whose pod does not exist, since the API server refused it.
const REFUSED: [JobReason; 2] = [JobReason::QuotaExceeded, JobReason::PodRefused];

/// Everything that is known of one run.
pub(super) struct Facts {
    pub(super) run: Arc<PipelineRun>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) reference: ObjectReference,
    /// False for a finished run: the cache holds a part of it only.
    pub(super) is_whole: bool,
    pipeline: Option<Arc<Pipeline>>,
    /// The pipelines that its pipeline uses, until there is a snapshot.
    used: Vec<Arc<Pipeline>>,
    prepared: Arc<Prepared>,
    /// The run that this one retries, until it has begun.
    retried: Option<PipelineRun>,
    places: Vec<PlaceFact>,
    agents: Vec<AgentFact>,
    runners: Vec<(String, Option<Arc<Runner>>)>,
}

impl Facts {
    /// When to look again because of what is not known yet.
    pub(super) fn recheck(&self) -> Option<Duration> {
        let is_unsure = self
            .places
            .iter()
            .any(|place| place.phase == PlacePhase::Creating);
        is_unsure.then_some(CACHE_PATIENCE)
    }
}

/// Looks at everything; none when the run is not there any more.
pub(super) async fn observe(
    cached: &Arc<PipelineRun>,
    context: &Context,
) -> Result<Option<Facts>, RunError> {
    let namespace = cached.namespace().unwrap_or_default();
    let name = cached.name_any();
    let uid = cached.uid().unwrap_or_default();
    let mut run = context.memory.newest(cached);
    let mut is_whole = !is_finished(cached);
    if !is_whole && is_stale(&run) {
        let api: Api<PipelineRun> = Api::namespaced(context.client.clone(), &namespace);
        let read = api.get_opt(&name).await;
        let read = read.map_err(|source| RunError::ReadRun {
            run: name.clone(),
            source,
        })?;
        match read.filter(|read| read.uid().as_ref() == Some(&uid)) {
            Some(whole) => run = Arc::new(whole),
            None => return Ok(None),
        }
        is_whole = true;
    }
    let (places, ended) = places(&run, &uid, context).await?;
    let mut agents: Vec<_> = context
        .hub
        .facts(&uid)
        .iter()
        .map(dispatch::agent_fact)
        .collect();
    merge(&mut agents, ended);
    let pipeline = run.spec.pipeline_ref.as_ref().and_then(|reference| {
        context
            .caches
            .pipelines
            .get(&ObjectRef::new(&reference.name).within(&namespace))
    });
    let retried = retried(&run, &namespace, context).await?;
    let used = used(&run, pipeline.as_deref(), &namespace, context);
    let runners = runners(&run, pipeline.as_deref(), &used, &namespace, context);
    let reference = cached.object_ref(&());
    let prepared = match is_whole {
        true => context.memory.prepared(&uid),
        false => Arc::default(),
    };
    Ok(Some(Facts {
        run,
        namespace,
        name,
        uid,
        reference,
        is_whole,
        pipeline,
        used,
        prepared,
        retried,
        places,
        agents,
        runners,
    }))
}

/// Plans from the facts. Places of pools and of concurrency groups are given out to one run at a
/// time.
pub(super) fn plan(facts: &Facts, context: &Context, now: Timestamp) -> Plan {
    let pipeline = match (&facts.run.spec.pipeline_ref, &facts.pipeline) {
        (None, _) => PipelineFact::Inline,
        (Some(reference), None) => PipelineFact::Missing {
            name: &reference.name,
        },
        (Some(reference), Some(pipeline)) => PipelineFact::Found {
            name: &reference.name,
            generation: pipeline.metadata.generation.unwrap_or_default(),
            spec: &pipeline.spec,
        },
    };
    let observed = |pools| Observed {
        run: &facts.run,
        pipeline,
        library: library(&facts.used),
        prepared: &facts.prepared,
        places: facts.places.clone(),
        agents: facts.agents.clone(),
        pools,
        retried: facts.retried.as_ref(),
        rivals: rivals(facts, context),
        approvals: context.memory.decisions(&facts.uid),
        logs: Some(context.log_access(&facts.namespace, &facts.uid)),
        observing_since: context.observing_since,
        settings: &context.settings,
    };
    if facts.runners.is_empty() && !is_in_group(facts) {
        return planner::run::plan(&observed(Vec::new()), now);
    }
    let _one_at_a_time = context.pools.lock();
    let plan = planner::run::plan(&observed(pools(facts, context)), now);
    let planned = PipelineRun {
        status: Some(plan.status.clone()),
        ..(*facts.run).clone()
    };
    context.memory.plan(&facts.uid, planned);
    plan
}

/// True when a finished run's spec was changed: its status must say that this was seen.
fn is_stale(run: &PipelineRun) -> bool {
    let observed = run
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    observed != run.metadata.generation
}

/// The run that a run is to take jobs over from. It is asked for: the cache holds only a part of a
/// finished run.
async fn retried(
    run: &PipelineRun,
    namespace: &str,
    context: &Context,
) -> Result<Option<PipelineRun>, RunError> {
    let has_begun = |status: &PipelineRunStatus| status.pipeline.is_some();
    if is_finished(run) || run.status.as_ref().is_some_and(has_begun) {
        return Ok(None);
    }
    let Some(retry) = &run.spec.retry_of else {
        return Ok(None);
    };
    let api: Api<PipelineRun> = Api::namespaced(context.client.clone(), namespace);
    let read = api.get_opt(&retry.run).await;
    read.map_err(|source| RunError::ReadRun {
        run: retry.run.clone(),
        source,
    })
}

/// The places of the run's jobs, and what the ended ones say of their agents.
async fn places(
    run: &PipelineRun,
    uid: &str,
    context: &Context,
) -> Result<(Vec<PlaceFact>, Vec<AgentFact>), RunError> {
    let mut places = Vec::new();
    let mut ended = Vec::new();
    for job in run.status.iter().flat_map(|status| &status.jobs) {
        let Some(name) = job.pod.as_ref().filter(|_| job.attempt > 0) else {
            continue;
        };
        let (phase, pod) = place(run, uid, job, name, context).await?;
        if let Some(message) = pod.as_deref().and_then(termination_message) {
            let result = runner_messages::termination::decode(message);
            ended.extend(result.as_ref().and_then(dispatch::terminated_fact));
        }
        let companions = pod.as_deref().map(companions).unwrap_or_default();
        places.extend(phase.map(|phase| PlaceFact {
            job: job.name.clone(),
            attempt: job.attempt,
            name: name.clone(),
            phase,
            companions,
        }));
    }
    Ok((places, ended))
}

async fn place(
    run: &PipelineRun,
    uid: &str,
    job: &JobStatus,
    name: &str,
    context: &Context,
) -> Result<(Option<PlacePhase>, Option<Arc<Pod>>), RunError> {
    let namespace = run.namespace().unwrap_or_default();
    if let Some(pod) = context
        .caches
        .pod(&namespace, name)
        .filter(|pod| is_of(pod, uid))
    {
        context.memory.note_place(uid, name, seen(&pod));
        return Ok((Some(place_phase(&pod)), Some(pod)));
    }
    let remembered = context.memory.place(uid, name);
    let phase = match remembered {
        Some(PlaceMemory::Refused { kind, message, at }) => {
            Some(PlacePhase::Refused { kind, message, at })
        }
        Some(PlaceMemory::Seen {
            reason, message, ..
        }) => Some(PlacePhase::Gone { reason, message }),
        Some(PlaceMemory::Created { at, .. }) if at.elapsed() < CACHE_PATIENCE => {
            Some(PlacePhase::Creating)
        }
        // Nothing of an ended job's place matters once it is not there.
        None if job.state.is_final() || is_refused(job) => None,
        Some(PlaceMemory::Created { .. }) | None => {
            return look_up(&namespace, uid, name, context).await;
        }
    };
    Ok((phase, None))
}

/// Asks the API server about a pod that should be there.
async fn look_up(
    namespace: &str,
    uid: &str,
    name: &str,
    context: &Context,
) -> Result<(Option<PlacePhase>, Option<Arc<Pod>>), RunError> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let read = api.get_opt(name).await;
    let read = read.map_err(|source| RunError::ReadPod {
        pod: name.to_owned(),
        source,
    })?;
    let Some(pod) = read.filter(|pod| is_of(pod, uid)) else {
        let (reason, message) = (String::new(), String::new());
        let gone = PlaceMemory::Seen {
            uid: String::new(),
            reason,
            message,
        };
        context.memory.note_place(uid, name, gone);
        return Ok((
            Some(PlacePhase::Gone {
                reason: String::new(),
                message: String::new(),
            }),
            None,
        ));
    };
    let created = PlaceMemory::Created {
        uid: pod.uid().unwrap_or_default(),
        at: Instant::now(),
    };
    context.memory.note_place(uid, name, created);
    Ok((Some(place_phase(&pod)), Some(Arc::new(pod))))
}

/// What is remembered of a pod that was seen.
pub fn seen(pod: &Pod) -> PlaceMemory {
    let (reason, message) = disruption(pod);
    PlaceMemory::Seen {
        uid: pod.uid().unwrap_or_default(),
        reason,
        message,
    }
}

fn is_of(pod: &Pod, run_uid: &str) -> bool {
    controlling_run(pod).is_some_and(|(_, uid)| uid == run_uid)
}

fn is_refused(job: &JobStatus) -> bool {
    REFUSED
        .iter()
        .any(|reason| job.reason.as_deref() == Some(reason.as_str()))
}

/// Adds what ended pods say where the hub knows no result.
fn merge(agents: &mut Vec<AgentFact>, ended: Vec<AgentFact>) {
    for fact in ended {
        let same = |known: &&mut AgentFact| {
            (&known.job, known.attempt, known.fence) == (&fact.job, fact.attempt, fact.fence)
        };
        match agents.iter_mut().find(same) {
            Some(known) if known.result.is_some() => {}
            Some(known) => {
                known.result = fact.result;
                known.steps = fact.steps;
            }
            None => agents.push(fact),
        }
    }
}

fn runners(
    run: &PipelineRun,
    pipeline: Option<&Pipeline>,
    used: &[Arc<Pipeline>],
    namespace: &str,
    context: &Context,
) -> Vec<(String, Option<Arc<Runner>>)> {
    if is_finished(run) {
        return Vec::new();
    }
    let spec = spec(run, pipeline);
    let used = spec.map(|spec| reuse::collect(spec, &library(used)));
    let used = used.iter().flatten().map(|used| &used.spec);
    let jobs =
        (spec.into_iter().chain(used)).flat_map(|spec| spec.jobs.iter().chain(&spec.finally_jobs));
    let known = run.status.iter().flat_map(|status| &status.jobs);
    let mut names: Vec<_> = jobs
        .filter_map(|job| job.runner.clone())
        .chain(known.filter_map(|job| job.runner.clone()))
        .collect();
    names.sort();
    names.dedup();
    let find = |name: &String| {
        context
            .caches
            .runners
            .get(&ObjectRef::new(name).within(namespace))
    };
    names
        .into_iter()
        .map(|name| (name.clone(), find(&name)))
        .collect()
}

/// The pipelines that the run's pipeline uses, and those that they use, as far as they are there.
fn used(
    run: &PipelineRun,
    pipeline: Option<&Pipeline>,
    namespace: &str,
    context: &Context,
) -> Vec<Arc<Pipeline>> {
    let has_snapshot = (run.status.as_ref()).is_some_and(|status| status.pipeline.is_some());
    let Some(spec) = spec(run, pipeline).filter(|_| !has_snapshot && !is_finished(run)) else {
        return Vec::new();
    };
    library::used(spec, namespace, &context.caches.pipelines)
}

/// The spec that the run executes, or will.
fn spec<'f>(run: &'f PipelineRun, pipeline: Option<&'f Pipeline>) -> Option<&'f PipelineSpec> {
    let status = run.status.as_ref();
    let snapshot = status.and_then(|status| status.pipeline.as_ref());
    snapshot
        .map(|snapshot| &snapshot.spec)
        .or(run.spec.pipeline_spec.as_ref())
        .or(pipeline.map(|pipeline| &pipeline.spec))
}

fn is_in_group(facts: &Facts) -> bool {
    let spec = spec(&facts.run, facts.pipeline.as_deref());
    !is_finished(&facts.run) && spec.is_some_and(|spec| spec.concurrency.is_some())
}

/// The other unfinished runs that are in a concurrency group, with what is planned for them.
fn rivals(facts: &Facts, context: &Context) -> Vec<Rival> {
    if !is_in_group(facts) {
        return Vec::new();
    }
    let unfinished = context.caches.runs_in(&facts.namespace).into_iter();
    let unfinished = unfinished.filter(|run| !is_finished(run));
    unfinished
        .filter(|run| run.metadata.uid.as_ref() != Some(&facts.uid))
        .filter_map(|run| Rival::of(&context.memory.for_pools(&run)))
        .collect()
}

fn pools(facts: &Facts, context: &Context) -> Vec<PoolFact> {
    let limited = facts
        .runners
        .iter()
        .flat_map(|(_, runner)| runner)
        .any(|r| r.spec.max.is_some());
    let mut runs = Vec::new();
    if limited {
        let unfinished = context.caches.runs_in(&facts.namespace).into_iter();
        let unfinished = unfinished.filter(|run| !is_finished(run));
        // What was planned for this run before is planned anew now, so it holds nothing.
        runs = unfinished
            .map(|run| match run.uid().as_ref() == Some(&facts.uid) {
                true => facts.run.clone(),
                false => context.memory.for_pools(&run),
            })
            .collect();
    }
    let runs: Vec<_> = runs.iter().map(|run| &**run).collect();
    let fact = |(name, runner): &(String, Option<Arc<Runner>>)| PoolFact {
        name: name.clone(),
        spec: runner.as_ref().map(|runner| runner.spec.clone()),
        free: runner
            .as_ref()
            .and_then(|runner| planner::pool::free(runner, &runs)),
    };
    facts.runners.iter().map(fact).collect()
}
