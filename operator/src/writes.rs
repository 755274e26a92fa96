//! Counts the writes to the API server, below every client that the operator uses.
//! Must not change requests.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request};
use tower::{Layer, Service};

use crate::metrics::{ApiWrite, Kind, Metrics, Verb};

/// Adds the counting to a client's stack.
#[derive(Clone)]
pub struct CountWrites(pub Arc<Metrics>);

/// A service that counts and passes on.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Layer<S> for CountWrites {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            metrics: self.0.clone(),
        }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        match classify(request.method(), request.uri().path()) {
            Some(Written::Lease) => drop(self.metrics.lease_writes.inc()),
            Some(Written::Object(write)) => {
                self.metrics.api_writes.get_or_create(&write).inc();
            }
            None => {}
        }
        self.inner.call(request)
    }
}

#[derive(Debug, PartialEq)]
enum Written {
    Lease,
    Object(ApiWrite),
}

fn classify(method: &Method, path: &str) -> Option<Written> {
    let verb = match *method {
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ => return None,
    };
    let words: Vec<_> = path.split('/').filter(|word| !word.is_empty()).collect();
    // /api/v1/... or /apis/GROUP/VERSION/..., then perhaps namespaces/NAME.
    let rest = words
        .get(if words.first() == Some(&"api") { 2 } else { 3 }..)
        .unwrap_or_default();
    let rest = if rest.first() == Some(&"namespaces") {
        rest.get(2..)
    } else {
        Some(rest)
    };
    let (resource, is_status) = match rest.unwrap_or_default() {
        [resource, _, "status"] => (*resource, true),
        [resource, ..] => (*resource, false),
        [] => ("", false),
    };
    let kind = match (resource, is_status) {
        ("leases", _) => return Some(Written::Lease),
        ("pods", _) => Kind::Pod,
        ("pipelineruns", true) => Kind::PipelineRunStatus,
        ("pipelineruns", false) => Kind::PipelineRun,
        ("pipelines", true) => Kind::PipelineStatus,
        ("runners", true) => Kind::RunnerStatus,
        ("events", _) => Kind::Event,
        ("secrets", _) => Kind::Secret,
        ("endpointslices", _) => Kind::EndpointSlice,
        ("tokenreviews", _) => Kind::TokenReview,
        ("approvals", true) => Kind::ApprovalStatus,
        ("approvals", false) => Kind::Approval,
        ("subjectaccessreviews", _) => Kind::SubjectAccessReview,
        _ => Kind::Other,
    };
    Some(Written::Object(ApiWrite { verb, kind }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(verb: Verb, kind: Kind) -> Option<Written> {
        Some(Written::Object(ApiWrite { verb, kind }))
    }

    #[test]
    fn writes_are_told_by_verb_and_kind() {
        let status = "/apis/rustci.dev/v1alpha1/namespaces/a/pipelineruns/b/status";
        assert_eq!(
            classify(&Method::PATCH, status),
            object(Verb::Patch, Kind::PipelineRunStatus)
        );
        let pods = "/api/v1/namespaces/status/pods";
        assert_eq!(
            classify(&Method::POST, pods),
            object(Verb::Create, Kind::Pod)
        );
        let review = "/apis/authentication.k8s.io/v1/tokenreviews";
        assert_eq!(
            classify(&Method::POST, review),
            object(Verb::Create, Kind::TokenReview)
        );
        let lease = "/apis/coordination.k8s.io/v1/namespaces/a/leases/l";
        assert_eq!(classify(&Method::PUT, lease), Some(Written::Lease));
        assert_eq!(classify(&Method::GET, pods), None);
    }
}
