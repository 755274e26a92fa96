//! A run's pipeline, checked and compiled once: kept by the caller from turn to turn.
//! Must not change what is planned: without it only time is lost.

use std::sync::{Arc, Mutex, PoisonError};

use crds::PipelineSpec;

use crate::validate::{Problem, ValidPipeline, validate_pipeline};

/// Keeps the checked pipeline of one run.
#[derive(Debug, Default)]
pub struct Prepared {
    pipeline: Mutex<Option<Arc<ValidPipeline>>>,
}

impl Prepared {
    /// The pipeline of this spec: the kept one, if it is still the same.
    pub(super) fn pipeline(&self, spec: &PipelineSpec) -> Result<Arc<ValidPipeline>, Vec<Problem>> {
        let mut kept = self.pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = kept.as_ref().filter(|kept| kept.spec == *spec) {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(validate_pipeline(spec)?);
        *kept = Some(Arc::clone(&pipeline));
        Ok(pipeline)
    }

    /// Keeps a pipeline that was checked elsewhere.
    pub(super) fn keep(&self, pipeline: ValidPipeline) {
        let mut kept = self.pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::new(pipeline));
    }
}
