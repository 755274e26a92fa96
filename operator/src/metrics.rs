//! The operator's metrics, in the Prometheus text form.
//! Must not take labels from object names: every label comes from an enum.

mod sessions;

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sessions::SessionCounters;
use valkyrie::metrics::Metrics as SessionMetrics;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sessions: SessionCounters,
    /// Writes to the API server, leases not included.
    pub api_writes: Family<ApiWrite, Counter>,
    /// Writes of the leader's lease.
    pub lease_writes: Counter,
    /// Reconciles by controller and outcome.
    pub reconciles: Family<Reconcile, Counter>,
    /// Duration of reconciles.
    pub reconcile_seconds: Family<OfController, Histogram, fn() -> Histogram>,
    /// Finished runs by verdict.
    pub runs: Family<OfVerdict, Counter>,
    /// Refused requests for a certificate, by reason.
    pub refused_identities: Family<OfRefusal, Counter>,
    /// Runs that are not finished.
    pub unfinished_runs: Gauge,
    /// Jobs that wait for a place of their Runner.
    pub queued_jobs: Gauge,
    /// 1 on the leader.
    pub leading: Gauge,
}

/// Labels of a write.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ApiWrite {
    /// What was done.
    pub verb: Verb,
    /// To what.
    pub kind: Kind,
}

/// What a write does.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum Verb {
    Create,
    Update,
    Patch,
    Delete,
}

/// What is written.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum Kind {
    Pod,
    PipelineRun,
    PipelineRunStatus,
    PipelineStatus,
    RunnerStatus,
    Event,
    Secret,
    EndpointSlice,
    TokenReview,
    Approval,
    ApprovalStatus,
    SubjectAccessReview,
    Other,
}

/// Labels of a reconcile.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Reconcile {
    /// Which controller.
    pub controller: ControllerName,
    /// How it ended.
    pub outcome: ReconcileOutcome,
}

/// Label of what belongs to one controller.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct OfController {
    /// Which controller.
    pub controller: ControllerName,
}

/// A controller.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum ControllerName {
    Approval,
    Pipeline,
    PipelineRun,
    Runner,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum ReconcileOutcome {
    Done,
    Failed,
}

/// Label of finished runs.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct OfVerdict {
    /// How the run ended.
    pub verdict: VerdictLabel,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum VerdictLabel {
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
    Infrastructure,
}

/// Label of refused identities.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct OfRefusal {
    /// Why.
    pub reason: IdentityRefusal,
}

/// Why an agent gets no certificate.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum IdentityRefusal {
    Token,
    Audience,
    NotAPod,
    UnknownPod,
    ForeignPod,
    FinishedPod,
    FinishedRun,
    Request,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Self {
            registry: Registry::with_prefix("rustci"),
            sessions: SessionCounters::default(),
            api_writes: Family::default(),
            lease_writes: Counter::default(),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(durations),
            runs: Family::default(),
            refused_identities: Family::default(),
            unfinished_runs: Gauge::default(),
            queued_jobs: Gauge::default(),
            leading: Gauge::default(),
        };
        all.register();
        all
    }
}

impl Metrics {
    /// Shows the counters of the hub's server from now on.
    pub fn follow_sessions(&self, counters: Arc<SessionMetrics>) {
        self.sessions.follow(counters);
    }

    /// All metrics as text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing into a String cannot fail");
        text
    }

    /// Writes to the API server so far, leases not included.
    pub fn total_api_writes(&self) -> u64 {
        let text = self.encode();
        let counts = text
            .lines()
            .filter_map(|line| line.strip_prefix("rustci_api_writes_total{"));
        counts
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "api_writes",
            "Writes to the API server",
            self.api_writes.clone(),
        );
        r.register(
            "lease_writes",
            "Writes of the leader's lease",
            self.lease_writes.clone(),
        );
        r.register(
            "reconciles",
            "Reconciles by outcome",
            self.reconciles.clone(),
        );
        r.register_with_unit(
            "reconcile",
            "Duration of reconciles",
            Unit::Seconds,
            self.reconcile_seconds.clone(),
        );
        r.register("runs", "Finished runs by verdict", self.runs.clone());
        r.register(
            "refused_identities",
            "Refused requests for a certificate",
            self.refused_identities.clone(),
        );
        r.register(
            "unfinished_runs",
            "Runs that are not finished",
            self.unfinished_runs.clone(),
        );
        r.register(
            "queued_jobs",
            "Jobs that wait for a Runner",
            self.queued_jobs.clone(),
        );
        r.register("leading", "1 on the leader", self.leading.clone());
        r.register_collector(Box::new(self.sessions.clone()));
    }
}

fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

#[cfg(test)]
mod tests {
    use valkyrie::endpoint::TransportKind;
    use valkyrie::metrics::Refusal;

    use super::*;

    #[test]
    fn the_text_has_writes_and_session_counters_with_bounded_labels() {
        let metrics = Metrics::default();
        let status = ApiWrite {
            verb: Verb::Patch,
            kind: Kind::PipelineRunStatus,
        };
        metrics.api_writes.get_or_create(&status).inc_by(3);
        metrics
            .api_writes
            .get_or_create(&ApiWrite {
                verb: Verb::Create,
                kind: Kind::Pod,
            })
            .inc();
        let counters = Arc::new(SessionMetrics::default());
        counters.calls_ok.add(7);
        counters.refused(Refusal::Tls).add(2);
        counters.won(TransportKind::WebSocket).add(5);
        metrics.follow_sessions(counters);
        let text = metrics.encode();
        assert!(
            text.contains("rustci_api_writes_total{verb=\"Patch\",kind=\"PipelineRunStatus\"} 3\n")
        );
        assert!(
            text.contains("rustci_valkyrie_calls_ok_total 7\n"),
            "{text}"
        );
        assert!(
            text.contains("rustci_valkyrie_refusals_total{reason=\"tls\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("rustci_valkyrie_transports_total{transport=\"websocket\"} 5\n"),
            "{text}"
        );
        assert_eq!(metrics.total_api_writes(), 4);
    }
}
