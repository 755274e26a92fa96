//! Writes Kubernetes events with derived names, so that one said twice is there once.
//! Must not fail a reconcile: an event that cannot be written is logged.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use planner::run as plan;

/// Longest note that the API server takes, in bytes.
const NOTE_MAX: usize = 1024;

/// Writes events for one instance of the operator.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
}

impl Events {
    /// `instance` is the name of this operator.
    pub fn new(client: Client, instance: &str) -> Self {
        Self {
            client,
            instance: instance.to_owned(),
        }
    }

    /// Writes all of them; trouble is logged and not more.
    pub async fn publish(&self, regarding: &ObjectReference, events: &[plan::Event]) {
        let namespace = regarding.namespace.as_deref().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        for event in events {
            let built = build_event(regarding, event, &self.instance, Timestamp::now());
            match api.create(&PostParams::default(), &built).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(error) => {
                    let reason = &event.reason;
                    tracing::warn!(%error, namespace, reason, "An event could not be written.");
                }
            }
        }
    }
}

fn build_event(
    regarding: &ObjectReference,
    event: &plan::Event,
    instance: &str,
    now: Timestamp,
) -> Event {
    let plan::Event {
        event_type,
        reason,
        message,
        at: _,
    } = event;
    let name = regarding.name.as_deref().unwrap_or_default();
    let uid = regarding.uid.as_deref().unwrap_or_default();
    let identity = format!("{uid}\n{reason}\n{message}");
    let hash = blake3::hash(identity.as_bytes()).to_hex();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", cut(name, 200), &hash[..16])),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        type_: Some(
            match event_type {
                plan::EventType::Normal => "Normal",
                plan::EventType::Warning => "Warning",
            }
            .to_owned(),
        ),
        reason: Some(reason.clone()),
        action: Some("Run".to_owned()),
        note: Some(cut(message, NOTE_MAX).to_owned()),
        regarding: Some(regarding.clone()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(format!("{}/operator", crds::GROUP)),
        reporting_instance: Some(cut(instance, 128).to_owned()),
        ..Event::default()
    }
}

fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_gets_the_same_name_and_a_long_note_is_cut() {
        let regarding = ObjectReference {
            name: Some("nightly".to_owned()),
            uid: Some("0b1f".to_owned()),
            ..ObjectReference::default()
        };
        let event = plan::Event {
            event_type: plan::EventType::Warning,
            reason: "Failed".to_owned(),
            message: "ä".repeat(1000),
            at: Timestamp::UNIX_EPOCH,
        };
        let first = build_event(&regarding, &event, "north", Timestamp::UNIX_EPOCH);
        let second = build_event(&regarding, &event, "south", Timestamp::MAX);
        assert_eq!(first.metadata.name, second.metadata.name);
        assert_eq!(first.note.unwrap().len(), NOTE_MAX);
        let other = plan::Event {
            reason: "Started".to_owned(),
            ..event
        };
        let third = build_event(&regarding, &other, "north", Timestamp::UNIX_EPOCH);
        assert_ne!(first.metadata.name, third.metadata.name);
    }
}
