//! API writes, as the operator and the API server count them.
//! Must not count leases and node heartbeats: they don't belong to a run.

use anyhow::Result;
use kube::client::Body;

use super::runs::Bench;

/// Totals since the servers started.
pub(crate) struct Writes {
    /// By the operator.
    pub(crate) ours: f64,
    /// By everything in the cluster, but for leases and node status.
    pub(crate) cluster: f64,
}

impl Writes {
    /// Reads both metrics.
    pub(crate) async fn read(bench: &Bench) -> Result<Self> {
        let (namespace, service) = bench.operator_service().await?;
        let operator = get(
            bench,
            &format!("/api/v1/namespaces/{namespace}/services/http:{service}/proxy/metrics"),
        )
        .await?;
        let server = get(bench, "/metrics").await?;
        Ok(Self {
            ours: sum(&operator, "rustci_api_writes_total{", |_| true),
            cluster: sum(&server, "apiserver_request_total{", |labels| {
                let write = ["POST", "PUT", "PATCH", "DELETE", "APPLY"]
                    .iter()
                    .any(|verb| labels.contains(&format!("verb=\"{verb}\"")));
                let noise = ["leases", "nodes", "tokenreviews", "subjectaccessreviews"]
                    .iter()
                    .any(|resource| labels.contains(&format!("resource=\"{resource}\"")));
                write && !noise
            }),
        })
    }
}

async fn get(bench: &Bench, path: &str) -> Result<String> {
    let request = http::Request::get(path).body(Body::empty())?;
    let (parts, body) = request.into_parts();
    drop(body);
    Ok(bench
        .client
        .request_text(http::Request::from_parts(parts, Vec::new()))
        .await?)
}

fn sum(text: &str, series: &str, counts: impl Fn(&str) -> bool) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(series)?.split_once("} "))
        .filter(|(labels, _)| counts(labels))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}
