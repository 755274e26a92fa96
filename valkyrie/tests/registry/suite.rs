//! What every back end of the registry must do, whatever is below it.
//! Must not know which back end it is: other crates put theirs through it too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use valkyrie::registry::{Member, Query, Registry, RegistryError, leader};

/// Ends a test that hangs; longer than anything that a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

fn member(instance: &str, zone: &str) -> Member {
    // Documentation addresses (RFC 5737): nothing is there, and every back end may hold them.
    let addresses = vec![
        "192.0.2.7:7420".parse().unwrap(),
        "[2001:db8::7]:7421".parse().unwrap(),
    ];
    let mut member = Member::new(instance, addresses);
    member.labels.insert("zone".into(), zone.into());
    member
}

/// Waits until the watch shows these members, in this order.
async fn shows(watch: &mut watch::Receiver<Vec<Member>>, expected: &[&Member]) {
    let same = |members: &Vec<Member>| members.iter().eq(expected.iter().copied());
    let shown = tokio::time::timeout(PATIENCE, watch.wait_for(same)).await;
    let shown = shown.map(|shown| shown.expect("the watch goes on").len());
    assert!(shown.is_ok(), "waited for {expected:?}: {watch:?}");
}

/// Waits until a question of its own finds these members.
async fn resolves(registry: &dyn Registry, query: &Query, expected: &[&Member]) {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let found = registry.resolve(query).await.unwrap();
            if found.iter().eq(expected.iter().copied()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(found.await.is_ok(), "waited for {expected:?}");
}

/// The suite for a back end that takes announcements; nothing may be announced in it yet.
pub(crate) async fn reads_and_writes(registry: Arc<dyn Registry>) {
    let registry = &*registry;
    announced_members_are_found_by_service_and_labels(registry).await;
    the_newest_announcement_of_an_instance_counts(registry).await;
    the_highest_epoch_leads_until_it_goes(registry).await;
}

async fn announced_members_are_found_by_service_and_labels(registry: &dyn Registry) {
    let hub = Query::service("hub");
    let west = hub.clone().label("zone", "west");
    let mut watch = registry.watch(&hub).await.unwrap();
    let mut western = registry.watch(&west).await.unwrap();
    assert!(watch.borrow().is_empty());
    let (a, b) = (member("pod-a", "west"), member("pod-b", "east"));
    let first = registry.announce("hub", a.clone()).await.unwrap();
    shows(&mut watch, &[&a]).await;
    let second = registry.announce("hub", b.clone()).await.unwrap();
    let other = registry
        .announce("hub2", member("pod-c", "west"))
        .await
        .unwrap();
    shows(&mut watch, &[&a, &b]).await;
    shows(&mut western, &[&a]).await;
    let mut late = registry.watch(&hub).await.unwrap();
    shows(&mut late, &[&a, &b]).await;
    resolves(registry, &hub, &[&a, &b]).await;
    resolves(registry, &west, &[&a]).await;
    resolves(registry, &hub.clone().label("zone", "north"), &[]).await;
    drop(first);
    shows(&mut watch, &[&b]).await;
    shows(&mut western, &[]).await;
    resolves(registry, &hub, &[&b]).await;
    drop((second, other));
    shows(&mut watch, &[]).await;
    resolves(registry, &Query::service("hub2"), &[]).await;
}

async fn the_newest_announcement_of_an_instance_counts(registry: &dyn Registry) {
    let query = Query::service("hub");
    let mut watch = registry.watch(&query).await.unwrap();
    let before = member("pod-a", "west");
    let mut busier = before.clone();
    busier.load = 700;
    busier.addresses.truncate(1);
    busier.labels.insert("zone".into(), "east".into());
    let old = registry.announce("hub", before.clone()).await.unwrap();
    shows(&mut watch, &[&before]).await;
    let new = registry.announce("hub", busier.clone()).await.unwrap();
    shows(&mut watch, &[&busier]).await;
    drop(old);
    // An end of the old one would come before this member is seen.
    let other = registry
        .announce("hub", member("pod-b", "west"))
        .await
        .unwrap();
    shows(&mut watch, &[&busier, &member("pod-b", "west")]).await;
    resolves(registry, &query, &[&busier, &member("pod-b", "west")]).await;
    drop((new, other));
    shows(&mut watch, &[]).await;
}

async fn the_highest_epoch_leads_until_it_goes(registry: &dyn Registry) {
    let query = Query::service("hub");
    let mut watch = registry.watch(&query).await.unwrap();
    let (mut a, mut b) = (member("pod-a", "west"), member("pod-b", "west"));
    (a.epoch, b.epoch) = (4, 5);
    let old = registry.announce("hub", a.clone()).await.unwrap();
    let new = registry.announce("hub", b.clone()).await.unwrap();
    shows(&mut watch, &[&a, &b]).await;
    let leading = leader(&watch.borrow()).map(|it| it.instance.clone());
    assert_eq!(leading.as_deref(), Some("pod-b"));
    drop(new);
    shows(&mut watch, &[&a]).await;
    assert_eq!(leader(&watch.borrow()), Some(&a));
    drop(old);
    shows(&mut watch, &[]).await;
    assert_eq!(leader(&watch.borrow()), None);
}

/// The suite for a back end that only reads, which must have members of this service.
#[allow(dead_code, reason = "not every crate has such a back end")]
pub(crate) async fn only_reads(registry: Arc<dyn Registry>, service: &str) {
    let query = Query::service(service);
    let members = registry.resolve(&query).await.unwrap();
    assert!(!members.is_empty() && members.iter().all(|it| !it.addresses.is_empty()));
    assert!(
        members.is_sorted_by(|a, b| a.instance < b.instance),
        "by name, once each"
    );
    assert_eq!(leader(&members), None);
    let mut watch = registry.watch(&query).await.unwrap();
    shows(&mut watch, &members.iter().collect::<Vec<_>>()).await;
    resolves(&*registry, &query.label("zone", "west"), &[]).await;
    let refused = registry.announce(service, member("pod-a", "west")).await;
    assert!(matches!(refused, Err(RegistryError::ReadOnly)));
}
