//! What the objects say and when a member counts as dead, without an API server.
//! Must not read a clock beyond one first instant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use serde_json::json;

use super::super::{Member, Query, RegistryError};
use super::objects::{self, Objects};
use super::roster::{Now, Roster};

const LEASE: Duration = Duration::from_secs(15);
const SKEW: Duration = Duration::from_secs(5);

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn member(instance: &str) -> Member {
    Member {
        labels: BTreeMap::from([("zone".into(), "west".into())]),
        load: 70,
        epoch: 3,
        ..Member::new(instance, vec![SocketAddr::from(([10, 1, 0, 1], 7420))])
    }
}

fn objects(instance: &str) -> Objects {
    Objects::new("hub", member(instance), LEASE).unwrap()
}

/// Both clocks, moved on together.
struct Clocks(Now);

impl Clocks {
    fn new() -> Self {
        Self(Now {
            instant: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + secs(1_800_000_000),
        })
    }

    fn after(&self, by: Duration) -> Now {
        Now {
            instant: self.0.instant + by,
            wall: self.0.wall + by,
        }
    }
}

fn names(roster: &Roster, now: Now) -> Vec<String> {
    let members = roster.members(&Query::service("hub"), now.instant);
    members.into_iter().map(|it| it.instance).collect()
}

fn roster_of(objects: &Objects, renewed: SystemTime, now: Now) -> Roster {
    let mut roster = Roster::new(SKEW);
    roster.slice(&objects.slice());
    roster.lease(&objects.lease(renewed), now);
    roster
}

#[test]
fn a_member_comes_back_from_its_objects_as_it_was() {
    let clocks = Clocks::new();
    let mut both = member("pod-a/1");
    both.addresses = vec![
        "[fd00::1]:7420".parse().unwrap(),
        "10.1.0.1:7420".parse().unwrap(),
    ];
    let objects = Objects::new("hub", both.clone(), LEASE).unwrap();
    let roster = roster_of(&objects, clocks.0.wall, clocks.0);
    let found = roster.members(&Query::service("hub"), clocks.0.instant);
    assert_eq!(found, [both]);
    let slice = objects.slice();
    assert_eq!(slice.address_type, "IPv6");
    assert_eq!(slice.endpoints[0].addresses, ["fd00::1"]);
    let ports = slice.ports.unwrap().into_iter();
    let ports: Vec<_> = ports
        .map(|it| (it.name.unwrap(), it.port.unwrap()))
        .collect();
    assert_eq!(ports, [("udp".into(), 7420), ("tcp".into(), 7420)]);
    let name = slice.metadata.name.unwrap();
    assert!(name.starts_with("hub-pod-a-1-"), "{name}");
    assert_ne!(name, objects_name("pod-a-1"), "told apart by the digest");
}

fn objects_name(instance: &str) -> String {
    objects(instance).name
}

#[test]
fn what_the_cluster_could_not_hold_is_refused_before_it_is_asked() {
    let unfit = |service: &str, member: Member| {
        let made = Objects::new(service, member, LEASE);
        assert!(matches!(made, Err(RegistryError::Unfit(_))), "{made:?}");
    };
    for service in ["", "Hub", "hub.oak", "-hub", "a=b,c", &"h".repeat(64)] {
        unfit(service, member("a"));
    }
    unfit("hub", Member::new("a", vec![]));
    unfit(
        "hub",
        Member {
            instance: String::new(),
            ..member("a")
        },
    );
}

#[test]
fn a_member_counts_from_its_slice_and_its_lease_until_it_is_not_renewed() {
    let clocks = Clocks::new();
    let objects = objects("a");
    let mut roster = Roster::new(SKEW);
    roster.slice(&objects.slice());
    assert!(names(&roster, clocks.0).is_empty(), "no lease yet");
    roster.lease(&objects.lease(clocks.0.wall), clocks.0);
    assert_eq!(names(&roster, clocks.0), ["a"]);

    // The same lease again is no renewal, a changed one is, by the reader's own clock.
    roster.lease(&objects.lease(clocks.0.wall), clocks.after(secs(10)));
    assert_eq!(roster.next_expiry(), Some(clocks.after(LEASE).instant));
    let skewed = clocks.0.wall - secs(3600);
    roster.lease(&objects.lease(skewed), clocks.after(secs(10)));
    let end = clocks.after(secs(25));
    assert_eq!(roster.next_expiry(), Some(end.instant));
    assert_eq!(names(&roster, clocks.after(secs(24))), ["a"]);
    assert!(names(&roster, end).is_empty());
    roster.forget_dead(end.instant);
    assert_eq!(roster.next_expiry(), None);
    roster.lease(&objects.lease(skewed), end);
    assert!(names(&roster, end).is_empty(), "seen again, still dead");
    roster.lease(
        &objects.lease(clocks.after(secs(40)).wall),
        clocks.after(secs(40)),
    );
    assert_eq!(
        names(&roster, clocks.after(secs(40))),
        ["a"],
        "back to life"
    );
}

#[test]
fn at_first_sight_the_time_in_the_lease_counts_with_room_for_other_clocks() {
    let clocks = Clocks::new();
    let objects = objects("a");
    let lives = |renewed| !names(&roster_of(&objects, renewed, clocks.0), clocks.0).is_empty();
    assert!(lives(clocks.0.wall - secs(19)));
    assert!(!lives(clocks.0.wall - secs(20)), "lease and skew are over");
    let future = roster_of(&objects, clocks.0.wall + secs(3600), clocks.0);
    assert_eq!(future.next_expiry(), Some(clocks.after(LEASE).instant));
}

#[test]
fn while_the_source_is_away_nobody_dies_and_then_everyone_may_renew() {
    let clocks = Clocks::new();
    let objects = objects("a");
    let mut roster = roster_of(&objects, clocks.0.wall, clocks.0);
    roster.lost();
    assert_eq!(roster.next_expiry(), None);
    assert_eq!(names(&roster, clocks.after(secs(600))), ["a"]);
    let back = clocks.after(secs(600));
    roster.leases_changed(Event::Init, back);
    roster.leases_changed(Event::InitApply(objects.lease(clocks.0.wall)), back);
    roster.leases_changed(Event::InitDone, back);
    assert_eq!(names(&roster, clocks.after(secs(614))), ["a"]);
    assert!(names(&roster, clocks.after(secs(615))).is_empty());
}

#[test]
fn a_new_list_takes_away_what_is_not_in_it_and_not_before_its_end() {
    let clocks = Clocks::new();
    let (a, b) = (objects("a"), objects("b"));
    let mut roster = roster_of(&a, clocks.0.wall, clocks.0);
    roster.slices_changed(Event::Apply(b.slice()), clocks.0);
    roster.leases_changed(Event::Apply(b.lease(clocks.0.wall)), clocks.0);
    assert_eq!(names(&roster, clocks.0), ["a", "b"]);
    roster.slices_changed(Event::Init, clocks.0);
    roster.slices_changed(Event::InitApply(b.slice()), clocks.0);
    assert_eq!(names(&roster, clocks.0), ["a", "b"]);
    roster.slices_changed(Event::InitDone, clocks.0);
    assert_eq!(names(&roster, clocks.0), ["b"]);
    roster.leases_changed(Event::Delete(b.lease(clocks.0.wall)), clocks.0);
    assert!(names(&roster, clocks.0).is_empty());
}

fn slice(body: serde_json::Value) -> EndpointSlice {
    serde_json::from_value(body).unwrap()
}

#[test]
fn slices_of_the_cluster_give_their_ready_endpoints_and_broken_ones_nobody() {
    let clocks = Clocks::new();
    let mut roster = Roster::new(SKEW);
    let cluster = |name: &str, family: &str, ip: &str| {
        slice(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "hub"}},
            "addressType": family,
            "ports": [{"port": 7420, "protocol": "UDP"}, {"port": 7420, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": [ip], "targetRef": {"kind": "Pod", "name": "hub-0"}},
                {"addresses": ["10.1.0.9"], "conditions": {"ready": false}},
                {"addresses": ["no.address"]},
            ],
        }))
    };
    roster.slice(&cluster("hub-4", "IPv4", "10.1.0.1"));
    roster.slice(&cluster("hub-6", "IPv6", "fd00::1"));
    let mut broken = objects("a").slice();
    broken
        .metadata
        .annotations
        .as_mut()
        .unwrap()
        .retain(|name, value| {
            *value = "{".into();
            name != "x"
        });
    roster.slice(&broken);
    roster.lease(&objects("a").lease(clocks.0.wall), clocks.0);
    let found = roster.members(&Query::service("hub"), clocks.0.instant);
    let addresses = ["10.1.0.1:7420", "[fd00::1]:7420"].map(|it| it.parse().unwrap());
    assert_eq!(found, [Member::new("hub-0", addresses.to_vec())]);
}

#[test]
fn only_leases_that_ended_long_ago_are_abandoned() {
    let clocks = Clocks::new();
    let lease: Lease = objects("a").lease(clocks.0.wall);
    assert!(!objects::is_abandoned(
        &lease,
        clocks.after(LEASE * 10).wall
    ));
    let later = clocks.after(LEASE * 10 + secs(1)).wall;
    assert!(objects::is_abandoned(&lease, later));
    assert!(objects::is_abandoned(&Lease::default(), clocks.0.wall));
}
