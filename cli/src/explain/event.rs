//! What the events of an object say.
//! Must not look at events that say that all is well.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use crate::output::elapsed;

/// Most events that are told of one object.
const MAX_EVENTS: usize = 3;

/// The newest warnings about an object, each message once.
pub(super) fn evidence(events: &[Event], object: &str, now: Timestamp) -> Vec<String> {
    let is_of = |event: &&Event| event.involved_object.name.as_deref() == Some(object);
    let is_warning = |event: &&Event| event.type_.as_deref() == Some("Warning");
    let mut found: Vec<_> = events.iter().filter(is_of).filter(is_warning).collect();
    found.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
    let mut said: Vec<(&str, String)> = Vec::new();
    for event in found {
        let message = event.message.as_deref().unwrap_or_default().trim();
        if !said.iter().any(|(known, _)| *known == message) {
            said.push((message, sentence(event, message, now)));
        }
    }
    said.truncate(MAX_EVENTS);
    said.into_iter().map(|(_, sentence)| sentence).collect()
}

fn sentence(event: &Event, message: &str, now: Timestamp) -> String {
    let reason = event.reason.as_deref().unwrap_or("Event");
    let times = event.series.as_ref().and_then(|series| series.count);
    let times = times.or(event.count).unwrap_or(1);
    let times = match times {
        0 | 1 => String::new(),
        many => format!("{many} times, "),
    };
    let ago = last_seen(event).map_or_else(String::new, |last| {
        let millis = now.as_millisecond() - last.as_millisecond();
        let millis = u64::try_from(millis).unwrap_or_default();
        format!(" ({times}{} ago)", elapsed::text(millis))
    });
    format!("event {reason}{ago}: {message}")
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let of_series = series.and_then(|series| series.last_observed_time.as_ref());
    let micro = of_series.or(event.event_time.as_ref()).map(|time| time.0);
    event
        .last_timestamp
        .as_ref()
        .map(|time| time.0)
        .or(micro)
        .or_else(|| {
            event
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0)
        })
}
