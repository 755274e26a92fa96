//! The trace of the call that this task is handling, for what its handler starts.
//! Must not outlive the handler, nor reach another task.

use std::future::Future;

use crate::trace::TraceContext;

tokio::task_local! {
    static TRACE: TraceContext;
}

/// Runs a handler as part of a trace.
pub(super) async fn within<F: Future>(trace: Option<TraceContext>, handling: F) -> F::Output {
    match trace {
        Some(trace) => TRACE.scope(trace, handling).await,
        None => handling.await,
    }
}

/// The trace of the call that is being handled here, if any.
pub(super) fn trace() -> Option<TraceContext> {
    TRACE.try_with(Clone::clone).ok()
}
