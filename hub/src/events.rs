//! Tells the operator which runs have news, each at most once until it looked.
//! Must not hold more than one entry for each run.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use runner_messages::JobKey;
use tokio::sync::{Notify, mpsc};

/// News for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubEvent {
    /// Facts of this run changed since the last event of it.
    Changed {
        /// Namespace of the run.
        namespace: String,
        /// Its name.
        run: String,
        /// Its UID.
        run_uid: String,
    },
}

/// Runs with news that the operator has not taken yet.
#[derive(Default)]
pub(crate) struct Events {
    changed: Mutex<HashMap<String, HubEvent>>,
    more: Notify,
}

impl Events {
    /// Notes that a run has news.
    pub(crate) fn changed(&self, key: &JobKey) {
        let event = HubEvent::Changed {
            namespace: key.namespace.clone(),
            run: key.run.clone(),
            run_uid: key.run_uid.clone(),
        };
        self.changed.lock().insert(key.run_uid.clone(), event);
        self.more.notify_one();
    }

    fn take(&self) -> Option<HubEvent> {
        let mut changed = self.changed.lock();
        let run_uid = changed.keys().next().cloned()?;
        changed.remove(&run_uid)
    }
}

/// Hands events on until nobody listens.
pub(crate) async fn pump(events: Arc<Events>, sender: mpsc::Sender<HubEvent>) {
    loop {
        events.more.notified().await;
        loop {
            // Room first: what changes meanwhile is merged into what waits.
            let Ok(permit) = sender.reserve().await else {
                return;
            };
            let Some(event) = events.take() else { break };
            permit.send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(run: &str) -> JobKey {
        JobKey {
            namespace: "grove".into(),
            run: run.into(),
            run_uid: format!("uid-{run}"),
            ..JobKey::default()
        }
    }

    #[tokio::test]
    async fn a_thousand_changes_of_two_runs_are_few_events_and_none_is_missed() {
        let events = Arc::new(Events::default());
        for _ in 0..1000 {
            events.changed(&key("oak"));
            events.changed(&key("elm"));
        }
        let (sender, mut receiver) = mpsc::channel(1);
        let pump = tokio::spawn(pump(events.clone(), sender));
        let mut runs = Vec::new();
        for _ in 0..2 {
            let HubEvent::Changed { run, .. } = receiver.recv().await.expect("an event");
            runs.push(run);
        }
        runs.sort();
        assert_eq!(runs, ["elm", "oak"]);
        assert!(events.changed.lock().is_empty());
        events.changed(&key("oak"));
        assert!(
            matches!(receiver.recv().await, Some(HubEvent::Changed { run, .. }) if run == "oak")
        );
        drop(receiver);
        events.changed(&key("oak"));
        pump.await.expect("the pump ends when nobody listens");
    }
}
