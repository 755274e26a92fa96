//! A run's pipeline, checked and compiled once: kept by the caller from turn to turn.
//! Must not change what is planned: without it only time is lost.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crds::{PipelineSpec, UsedPipeline};

use crate::reuse::Library;
use crate::validate::{Problem, ValidPipeline, validate_pipeline_with};

/// Keeps the checked pipeline of one run.
#[derive(Debug, Default)]
pub struct Prepared {
    pipeline: Mutex<Option<Arc<ValidPipeline>>>,
    /// Bytes of the run without the status of its jobs.
    base: OnceLock<usize>,
}

impl Prepared {
    /// The pipeline of a snapshot: the kept one, if it is still the same.
    pub(super) fn of_snapshot(
        &self,
        spec: &PipelineSpec,
        used: &[UsedPipeline],
    ) -> Result<Arc<ValidPipeline>, Vec<Problem>> {
        let same = |kept: &ValidPipeline| {
            let parts = |used: &[UsedPipeline]| -> Vec<_> {
                let parts = used.iter();
                parts
                    .map(|part| (part.pipeline.clone(), part.digest.clone()))
                    .collect()
            };
            kept.spec == *spec && parts(&kept.used) == parts(used)
        };
        self.kept_or(same, || validate_pipeline_with(spec, &Library::of(used)))
    }

    /// A pipeline with what it uses of a library, before there is a snapshot.
    pub(super) fn of_library(
        &self,
        spec: &PipelineSpec,
        library: &Library<'_>,
    ) -> Result<Arc<ValidPipeline>, Vec<Problem>> {
        // The library may have changed since the last turn.
        let same = |kept: &ValidPipeline| kept.used.is_empty() && kept.spec == *spec;
        self.kept_or(same, || validate_pipeline_with(spec, library))
    }

    /// Bytes of the run without the status of its jobs, measured once.
    pub(super) fn base(&self, measure: impl FnOnce() -> usize) -> usize {
        *self.base.get_or_init(measure)
    }

    /// Keeps a pipeline that was checked elsewhere.
    pub(super) fn keep(&self, pipeline: ValidPipeline) -> Arc<ValidPipeline> {
        let pipeline = Arc::new(pipeline);
        let mut kept = self.pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::clone(&pipeline));
        pipeline
    }

    fn kept_or(
        &self,
        same: impl FnOnce(&ValidPipeline) -> bool,
        check: impl FnOnce() -> Result<ValidPipeline, Vec<Problem>>,
    ) -> Result<Arc<ValidPipeline>, Vec<Problem>> {
        let kept = self.pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = kept.as_ref().filter(|kept| same(kept)) {
            return Ok(Arc::clone(pipeline));
        }
        drop(kept);
        check().map(|pipeline| self.keep(pipeline))
    }
}
