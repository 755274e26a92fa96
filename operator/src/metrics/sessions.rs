//! What the sessions with agents count, in the Prometheus text form.
//! Must not take labels from peers: they are classes, transports and reasons.

use std::fmt::Error;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Unit;
use valkyrie::endpoint::{Class, TransportKind};
use valkyrie::metrics::{Counter, Gauge, Histogram, Metrics, Refusal, Traffic};

/// The counters of the hub's server, once there is one.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionCounters(Arc<Mutex<Option<Arc<Metrics>>>>);

/// The transports that carry agents: not those inside one process.
const CARRIERS: [TransportKind; 3] = [
    TransportKind::Quic,
    TransportKind::Tcp,
    TransportKind::WebSocket,
];

impl SessionCounters {
    pub(super) fn follow(&self, counters: Arc<Metrics>) {
        *self.0.lock() = Some(counters);
    }
}

impl Collector for SessionCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(counters) = self.0.lock().clone() else {
            return Ok(());
        };
        totals(&mut encoder, &counters)?;
        reasons(&mut encoder, &counters)?;
        numbers(&mut encoder, &counters)?;
        levels(&mut encoder, &counters)?;
        times(&mut encoder, &counters)
    }
}

fn totals(encoder: &mut DescriptorEncoder<'_>, counters: &Metrics) -> Result<(), Error> {
    let totals: [(&str, &str, &Counter); 8] = [
        (
            "connections",
            "Connections that finished their handshake",
            &counters.connections,
        ),
        (
            "disconnections",
            "Connections that ended",
            &counters.disconnections,
        ),
        ("handshakes", "Handshakes begun", &counters.handshakes),
        ("resumptions", "Sessions resumed", &counters.resumptions),
        ("calls_ok", "Calls answered", &counters.calls_ok),
        ("calls_failed", "Calls that failed", &counters.calls_failed),
        ("streams", "Streams received", &counters.streams),
        ("notices", "Notices received", &counters.notices),
    ];
    for (name, help, counter) in totals {
        let metric = ConstCounter::new(counter.value());
        let name = format!("valkyrie_{name}");
        metric.encode(encoder.encode_descriptor(&name, help, None, metric.metric_type())?)?;
    }
    Ok(())
}

fn reasons(encoder: &mut DescriptorEncoder<'_>, counters: &Metrics) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(
        "valkyrie_refusals",
        "Refused connections, streams and messages",
        None,
        MetricType::Counter,
    )?;
    for reason in Refusal::ALL {
        let metric = ConstCounter::new(counters.refused(reason).value());
        metric.encode(family.encode_family(&[("reason", reason.label())])?)?;
    }
    let mut family = encoder.encode_descriptor(
        "valkyrie_transports",
        "Connections that finished their handshake, by what carries them",
        None,
        MetricType::Counter,
    )?;
    for kind in TransportKind::ALL {
        let metric = ConstCounter::new(counters.won(kind).value());
        metric.encode(family.encode_family(&[("transport", kind.label())])?)?;
    }
    Ok(())
}

/// Calls `each` for every class and transport with a place to write to.
fn by_class(
    family: &mut MetricEncoder<'_>,
    counters: &Metrics,
    each: impl Fn(MetricEncoder<'_>, &Traffic) -> Result<(), Error>,
) -> Result<(), Error> {
    for kind in CARRIERS {
        for class in Class::ALL {
            let labels = [("class", class.label()), ("transport", kind.label())];
            each(
                family.encode_family(&labels)?,
                counters.traffic(kind, class),
            )?;
        }
    }
    Ok(())
}

fn numbers(encoder: &mut DescriptorEncoder<'_>, counters: &Metrics) -> Result<(), Error> {
    type Of = fn(&Traffic) -> &Counter;
    let numbers: [(&str, &str, Of); 6] = [
        ("bytes_sent", "Payload bytes sent", |t| &t.bytes_sent),
        ("bytes_received", "Payload bytes received", |t| {
            &t.bytes_received
        }),
        ("frames_sent", "Frames sent", |t| &t.frames_sent),
        ("frames_received", "Frames received", |t| &t.frames_received),
        ("shed_notices", "Notices dropped by a full queue", |t| {
            &t.shed_messages
        }),
        ("shed_bytes", "Bytes of dropped notices", |t| &t.shed_bytes),
    ];
    for (name, help, of) in numbers {
        let name = format!("valkyrie_{name}");
        let kind = ConstCounter::<u64>::TYPE;
        let mut family = encoder.encode_descriptor(&name, help, None, kind)?;
        by_class(&mut family, counters, |place, traffic| {
            ConstCounter::new(of(traffic).value()).encode(place)
        })?;
    }
    Ok(())
}

fn levels(encoder: &mut DescriptorEncoder<'_>, counters: &Metrics) -> Result<(), Error> {
    type Of = fn(&Traffic) -> &Gauge;
    let levels: [(&str, &str, Of); 3] = [
        ("open", "Calls and streams that are open", |t| &t.open),
        ("in_flight_bytes", "Bytes under way", |t| &t.in_flight),
        ("credit_bytes", "Bytes that may be under way", |t| &t.credit),
    ];
    for (name, help, of) in levels {
        let name = format!("valkyrie_{name}");
        let kind = ConstGauge::<i64>::TYPE;
        let mut family = encoder.encode_descriptor(&name, help, None, kind)?;
        by_class(&mut family, counters, |place, traffic| {
            ConstGauge::new(of(traffic).value()).encode(place)
        })?;
    }
    Ok(())
}

fn times(encoder: &mut DescriptorEncoder<'_>, counters: &Metrics) -> Result<(), Error> {
    type Of = fn(&Traffic) -> &Histogram;
    let times: [(&str, &str, Of); 2] = [
        (
            "valkyrie_queued",
            "Time that senders waited for leave",
            |t| &t.queued,
        ),
        (
            "valkyrie_round_trip",
            "Round trips that were measured",
            |t| &t.round_trip,
        ),
    ];
    for (name, help, of) in times {
        let unit = Some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        by_class(&mut family, counters, |mut place, traffic| {
            let histogram = of(traffic);
            let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            place.encode_histogram::<NoLabelSet>(histogram.sum(), count, &buckets, None)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn every_class_and_transport_has_its_lines_and_no_label_comes_from_a_peer() {
        let counters = Arc::new(Metrics::default());
        let traffic = counters.traffic(TransportKind::Tcp, Class::Log);
        traffic.bytes_sent.add(9);
        traffic.open.add(2);
        traffic.credit.add(4096);
        traffic.shed_messages.add(3);
        traffic.round_trip.observe(Duration::from_millis(2));
        let sessions = SessionCounters::default();
        sessions.follow(counters);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(sessions));
        let mut shown = String::new();
        text::encode(&mut shown, &registry).expect("writing into a String cannot fail");
        let labels = "class=\"log\",transport=\"tcp\"";
        for line in [
            format!("valkyrie_bytes_sent_total{{{labels}}} 9\n"),
            format!("valkyrie_open{{{labels}}} 2\n"),
            format!("valkyrie_credit_bytes{{{labels}}} 4096\n"),
            format!("valkyrie_shed_notices_total{{{labels}}} 3\n"),
            format!("valkyrie_round_trip_seconds_count{{{labels}}} 1\n"),
            format!("valkyrie_round_trip_seconds_bucket{{le=\"0.003\",{labels}}} 1\n"),
        ] {
            assert!(shown.contains(&line), "no {line} in\n{shown}");
        }
        assert!(
            shown.lines().count() < 600,
            "{} lines",
            shown.lines().count()
        );
    }
}
