//! The Pipelines that a pipeline uses, from the cache.
//! Must not check what is used: the planner does.

use std::sync::Arc;

use crds::{Pipeline, PipelineSpec};
use kube::runtime::reflector::{ObjectRef, Store};
use planner::reuse::{self, Library};

/// The pipelines of a namespace that a spec uses, and those that they use, as far as they exist.
pub fn used(
    spec: &PipelineSpec,
    namespace: &str,
    pipelines: &Store<Pipeline>,
) -> Vec<Arc<Pipeline>> {
    let mut found: Vec<Arc<Pipeline>> = Vec::new();
    // What uses more is refused, so there is no need to look further.
    while found.len() <= reuse::MAX_PIPELINES {
        let missing = reuse::missing(spec, &library(&found));
        let before = found.len();
        found.extend(missing.iter().filter_map(|missing| {
            let reference = ObjectRef::new(&missing.pipeline).within(namespace);
            pipelines.get(&reference)
        }));
        if found.len() == before {
            break;
        }
    }
    found
}

/// These pipelines, for the planner.
pub fn library(used: &[Arc<Pipeline>]) -> Library<'_> {
    Library::of_pipelines(used.iter().map(|pipeline| &**pipeline))
}
