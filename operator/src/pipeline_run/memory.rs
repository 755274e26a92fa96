//! What the operator remembers of runs between reconciles: its own writes, ahead of the caches.
//! Must not hold anything that a restart could not find again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crds::PipelineRun;
use jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;
use planner::run::{ApprovalFact, Prepared, RefusalKind};
use tokio::time::Instant;

use crate::caches::is_finished;

/// The memory of all runs, by uid.
#[derive(Default)]
pub struct Memory {
    runs: Mutex<HashMap<String, RunMemory>>,
}

/// The memory of one run.
#[derive(Default)]
struct RunMemory {
    /// The run as the API server answered our last write.
    written: Option<Arc<PipelineRun>>,
    written_at: Option<Instant>,
    /// Since when something has been to write that may wait.
    due_since: Option<Instant>,
    /// The run with a status that is planned and not yet written: it holds places of pools.
    planned: Option<Arc<PipelineRun>>,
    places: HashMap<String, PlaceMemory>,
    prepared: Arc<Prepared>,
    /// Answers to jobs that wait for approval, each checked.
    decisions: Vec<ApprovalFact>,
}

/// What is known of a pod beside the cache.
#[derive(Clone, Debug, PartialEq)]
pub enum PlaceMemory {
    /// We created it; the cache has not shown it yet.
    Created {
        /// Uid of the pod.
        uid: String,
        /// When.
        at: Instant,
    },
    /// The API server refused it.
    Refused {
        /// Why.
        kind: RefusalKind,
        /// The API server's words.
        message: String,
        /// When.
        at: Timestamp,
    },
    /// The cache has shown it.
    Seen {
        /// Uid of the pod.
        uid: String,
        /// Reason of its disruption, else empty.
        reason: String,
        /// Message of the same.
        message: String,
    },
}

impl Memory {
    /// The newer of the cached run and the one that we wrote last. Resource versions of one kind
    /// are numbers that grow (Kubernetes guarantees it from 1.35 on, and always did it with etcd).
    pub fn newest(&self, cached: &Arc<PipelineRun>) -> Arc<PipelineRun> {
        let uid = cached.uid().unwrap_or_default();
        let mut runs = self.runs.lock();
        let Some(memory) = runs.get_mut(&uid) else {
            return cached.clone();
        };
        match &memory.written {
            Some(written) if version(written) > version(cached) => written.clone(),
            Some(_) => {
                memory.written = None;
                cached.clone()
            }
            None => cached.clone(),
        }
    }

    /// The run as pools must see it: with what is planned for it and not yet written.
    pub fn for_pools(&self, cached: &Arc<PipelineRun>) -> Arc<PipelineRun> {
        let uid = cached.uid().unwrap_or_default();
        let planned = self
            .runs
            .lock()
            .get(&uid)
            .and_then(|memory| memory.planned.clone());
        planned.unwrap_or_else(|| self.newest(cached))
    }

    /// Holds the places of a planned status until it is written or planned again.
    pub fn plan(&self, uid: &str, planned: PipelineRun) {
        self.with(uid, |memory| memory.planned = Some(Arc::new(planned)));
    }

    /// Lets go of a planned status: it is written.
    pub fn planned_is_over(&self, uid: &str) {
        if let Some(memory) = self.runs.lock().get_mut(uid) {
            memory.planned = None;
        }
    }

    /// Remembers the answer to our write.
    pub fn wrote(&self, uid: &str, run: PipelineRun) {
        self.with(uid, |memory| {
            if is_finished(&run) {
                memory.prepared = Arc::default();
                memory.decisions.clear();
            }
            memory.written = Some(Arc::new(run));
            memory.written_at = Some(Instant::now());
            memory.due_since = None;
        });
    }

    /// The cache must catch up before we write again: somebody else wrote.
    pub fn lost(&self, uid: &str) {
        if let Some(memory) = self.runs.lock().get_mut(uid) {
            memory.written = None;
        }
    }

    /// Time since our last write; none when we have not written.
    pub fn since_write(&self, uid: &str) -> Option<Duration> {
        Some(self.runs.lock().get(uid)?.written_at?.elapsed())
    }

    /// Time since something has been to write: zero at the first call after a write.
    pub fn due(&self, uid: &str) -> Duration {
        let mut runs = self.runs.lock();
        let memory = runs.entry(uid.to_owned()).or_default();
        memory.due_since.get_or_insert_with(Instant::now).elapsed()
    }

    /// The checked pipeline of a run.
    pub fn prepared(&self, uid: &str) -> Arc<Prepared> {
        let mut runs = self.runs.lock();
        runs.entry(uid.to_owned()).or_default().prepared.clone()
    }

    /// Remembers a checked answer; the run's status has it once the run is planned.
    pub fn decide(&self, uid: &str, decision: ApprovalFact) {
        self.with(uid, |memory| {
            memory.decisions.retain(|known| known.name != decision.name);
            memory.decisions.push(decision);
        });
    }

    /// The checked answers to a run's jobs.
    pub fn decisions(&self, uid: &str) -> Vec<ApprovalFact> {
        let runs = self.runs.lock();
        let memory = runs.get(uid);
        memory.map_or_else(Vec::new, |memory| memory.decisions.clone())
    }

    /// What is known of a pod.
    pub fn place(&self, uid: &str, name: &str) -> Option<PlaceMemory> {
        self.runs.lock().get(uid)?.places.get(name).cloned()
    }

    /// Remembers something of a pod.
    pub fn note_place(&self, uid: &str, name: &str, place: PlaceMemory) {
        self.with(uid, |memory| {
            drop(memory.places.insert(name.to_owned(), place))
        });
    }

    /// Forgets a run.
    pub fn forget(&self, uid: &str) {
        self.runs.lock().remove(uid);
    }

    fn with(&self, uid: &str, change: impl FnOnce(&mut RunMemory)) {
        change(self.runs.lock().entry(uid.to_owned()).or_default());
    }
}

fn version(run: &PipelineRun) -> u64 {
    run.metadata
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::PipelineRunSpec;

    fn run(resource_version: &str) -> Arc<PipelineRun> {
        let mut run = PipelineRun::new("nightly", PipelineRunSpec::default());
        run.metadata.uid = Some("0b1f".to_owned());
        run.metadata.resource_version = Some(resource_version.to_owned());
        Arc::new(run)
    }

    fn newest(memory: &Memory, cached: &str) -> Option<String> {
        memory.newest(&run(cached)).resource_version()
    }

    #[test]
    fn our_own_write_wins_over_an_older_cache_and_not_over_a_newer_one() {
        let memory = Memory::default();
        assert_eq!(newest(&memory, "99").as_deref(), Some("99"));
        memory.wrote("0b1f", (*run("100")).clone());
        assert_eq!(newest(&memory, "99").as_deref(), Some("100"));
        assert_eq!(newest(&memory, "101").as_deref(), Some("101"));
    }

    #[test]
    fn a_write_of_somebody_else_makes_the_cache_count() {
        let memory = Memory::default();
        memory.wrote("0b1f", (*run("100")).clone());
        memory.lost("0b1f");
        assert_eq!(newest(&memory, "99").as_deref(), Some("99"));
    }

    #[test]
    fn pools_see_a_planned_status_until_it_is_over() {
        let memory = Memory::default();
        let mut planned = (*run("100")).clone();
        planned.status = Some(crds::PipelineRunStatus {
            observed_generation: Some(4),
            ..crds::PipelineRunStatus::default()
        });
        memory.plan("0b1f", planned);
        assert!(memory.for_pools(&run("100")).status.is_some());
        memory.planned_is_over("0b1f");
        assert!(memory.for_pools(&run("100")).status.is_none());
    }
}
