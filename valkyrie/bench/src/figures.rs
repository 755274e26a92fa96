//! What a measurement gives: named figures.
//! Must not know what is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::machine::Busy;

/// Named figures of one measurement. The name ends with the unit.
pub(crate) type Figures = BTreeMap<String, f64>;

/// One measurement of one peer in one round, as it is printed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The row of the table.
    pub(crate) row: String,
    /// Who was measured.
    pub(crate) peer: String,
    /// Counts rounds from 0.
    pub(crate) round: usize,
    /// What came out.
    pub(crate) figures: Figures,
    /// How busy the machine was before.
    #[serde(flatten)]
    pub(crate) machine: Busy,
}

/// Latencies in nanoseconds.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let minute = 60_000_000_000;
        let histogram = Histogram::new_with_bounds(100, minute, 3);
        Self(histogram.expect("the bounds and the precision are valid"))
    }

    pub(crate) fn add(&mut self, passed: Duration) {
        let nanos = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos);
    }

    pub(crate) fn since(&mut self, start: Instant) {
        self.add(start.elapsed());
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let added = self.0.add(&other.0);
        added.expect("all histograms have the same bounds");
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Adds count and quantiles in microseconds.
    pub(crate) fn describe(&self, figures: &mut Figures) {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        figures.insert("count".into(), self.0.len() as f64);
        figures.insert("p50_us".into(), at(0.5));
        figures.insert("p99_us".into(), at(0.99));
        figures.insert("p999_us".into(), at(0.999));
        figures.insert("max_us".into(), self.0.max() as f64 / 1000.0);
    }
}
