//! The directory, the choice by load, and the members that are kept out.
//! Must not need a network or a clock.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn member(instance: &str, load: u16) -> Member {
    Member {
        load,
        ..Member::new(instance, vec![SocketAddr::from(([10, 0, 0, 1], 7400))])
    }
}

fn names(members: &[Member]) -> Vec<&str> {
    members.iter().map(|it| it.instance.as_str()).collect()
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_query_finds_the_members_of_its_service_with_its_labels_until_they_expire() {
    let now = Instant::now();
    let mut directory = Directory::new(10);
    let mut labelled = member("b", 0);
    labelled.labels.insert("zone".into(), "west".into());
    let ttl = Some(secs(30));
    for (service, member) in [
        ("hub", member("a", 0)),
        ("hub", labelled.clone()),
        ("hub2", member("c", 0)),
    ] {
        let change = directory.announce(service, member, ttl, now);
        assert_eq!(change, Ok(Change::Changed));
    }
    assert_eq!(
        names(&directory.resolve(&Query::service("hub"))),
        ["a", "b"]
    );
    let west = Query::service("hub").label("zone", "west");
    assert_eq!(names(&directory.resolve(&west)), ["b"]);
    assert!(
        directory
            .resolve(&Query::service("hub").label("zone", "east"))
            .is_empty()
    );
    let renewed = directory.announce("hub", labelled, ttl, now + secs(20));
    assert_eq!(renewed, Ok(Change::None), "a renewal is no change");
    assert_eq!(directory.next_expiry(), Some(now + secs(30)));
    assert_eq!(directory.expire(now + secs(30)), ["hub", "hub2"]);
    assert_eq!(names(&directory.resolve(&Query::service("hub"))), ["b"]);
    assert_eq!(directory.withdraw("hub", "b"), Change::Changed);
    assert_eq!(directory.withdraw("hub", "b"), Change::None);
}

#[test]
fn a_full_directory_refuses_new_members_and_still_renews_old_ones() {
    let now = Instant::now();
    let mut directory = Directory::new(1);
    directory
        .announce("hub", member("a", 0), None, now)
        .unwrap();
    assert_eq!(
        directory.announce("hub", member("b", 0), None, now),
        Err(Full)
    );
    let busier = directory.announce("hub", member("a", 9), None, now);
    assert_eq!(busier, Ok(Change::Changed));
}

#[test]
fn the_highest_epoch_leads_and_without_one_nobody_does() {
    let mut members = vec![member("a", 0), member("b", 0), member("c", 0)];
    assert_eq!(leader(&members), None);
    members[0].epoch = 4;
    members[2].epoch = 5;
    assert_eq!(leader(&members).map(|it| it.instance.as_str()), Some("c"));
}

/// How many of so many calls each member got, none of which ends.
fn spread(members: &[Member], calls: usize, two: bool) -> Vec<usize> {
    let mut random = StdRng::seed_from_u64(1);
    let mut picker = Picker::new(OutlierPolicy::default());
    let mut counts = vec![0; members.len()];
    for _ in 0..calls {
        let draws: (f64, f64) = (random.random(), random.random());
        // Without a second choice the first one is taken.
        let among = if two { members } else { &members[..1] };
        let chosen = picker.pick(among, draws, Instant::now()).unwrap();
        let at = members.iter().position(|it| it.instance == chosen.instance);
        counts[at.unwrap()] += 1;
    }
    counts
}

#[test]
fn two_choices_spread_open_calls_evenly_and_avoid_the_loaded_member() {
    let even: Vec<_> = (0..10).map(|at| member(&at.to_string(), 0)).collect();
    let counts = spread(&even, 1000, true);
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 6, "{counts:?}");
    let mut uneven = even;
    uneven[3].load = 1000;
    let counts = spread(&uneven, 300, true);
    assert!(counts[3] <= 3, "{counts:?}");
    assert_eq!(spread(&uneven, 5, false)[0], 5);
    assert!(
        Picker::new(OutlierPolicy::default())
            .pick(&[], (0.5, 0.5), Instant::now())
            .is_none()
    );
}

#[test]
fn a_member_that_fails_again_and_again_is_out_for_longer_each_time() {
    let now = Instant::now();
    let mut outliers = Outliers::new(OutlierPolicy::default());
    for _ in 0..4 {
        assert!(!outliers.failed("a", 4, now));
    }
    outliers.succeeded("a");
    for count in 1..=5 {
        assert_eq!(outliers.failed("a", 4, now), count == 5, "in a row");
    }
    assert!(outliers.is_out("a", now + secs(29)) && !outliers.is_out("a", now + secs(30)));
    let again = now + secs(30);
    for _ in 0..5 {
        outliers.failed("a", 4, again);
    }
    assert!(outliers.is_out("a", again + secs(59)) && !outliers.is_out("a", again + secs(60)));
}

#[test]
fn at_most_half_of_the_members_are_out_and_never_the_only_one() {
    let now = Instant::now();
    let mut outliers = Outliers::new(OutlierPolicy::default());
    let mut out = 0;
    for instance in ["a", "b", "c", "d"] {
        out += (0..5).filter(|_| outliers.failed(instance, 4, now)).count();
    }
    assert_eq!(out, 2);
    let mut alone = Outliers::new(OutlierPolicy::default());
    assert!((0..50).all(|_| !alone.failed("a", 1, now)));
}

#[test]
fn calls_avoid_a_failing_member_and_come_back_to_it() {
    let now = Instant::now();
    let members = vec![member("good", 500), member("bad", 0)];
    let mut random = StdRng::seed_from_u64(2);
    let mut picker = Picker::new(OutlierPolicy::default());
    let mut calls = |picker: &mut Picker, now| {
        let mut bad = 0;
        for _ in 0..100 {
            let draws = (random.random(), random.random());
            let chosen = picker.pick(&members, draws, now).unwrap().instance.clone();
            bad += u32::from(chosen == "bad");
            picker.done(&chosen, chosen == "bad", members.len(), now);
        }
        bad
    };
    assert_eq!(calls(&mut picker, now), 5, "five failures, then it is out");
    assert_eq!(calls(&mut picker, now + secs(29)), 0);
    assert_eq!(calls(&mut picker, now + secs(30)), 5);
    picker.keep(&members[..1]);
    assert!(
        !picker.is_out("bad", now + secs(31)),
        "forgotten with the member"
    );
}

#[cfg(feature = "net")]
mod asynchronous {
    use super::*;

    #[tokio::test]
    async fn a_watch_shows_the_newest_members_and_a_dropped_announcement_withdraws() {
        let registry = StaticRegistry::new(10);
        let query = Query::service("hub");
        let mut watch = registry.watch(&query).await.unwrap();
        assert!(watch.borrow_and_update().is_empty());
        let first = registry.announce("hub", member("a", 0)).await.unwrap();
        watch.changed().await.unwrap();
        assert_eq!(names(&watch.borrow_and_update()), ["a"]);
        let second = registry.announce("hub", member("a", 7)).await.unwrap();
        drop(first);
        let now = registry.resolve(&query).await.unwrap();
        assert_eq!(
            now[0].load, 7,
            "an old handle withdraws no newer announcement"
        );
        drop(second);
        watch.wait_for(Vec::is_empty).await.unwrap();
        let now = Instant::now();
        registry
            .insert("hub", member("b", 0), Some(secs(5)), now)
            .unwrap();
        assert_eq!(registry.expire(now), Some(now + secs(5)));
        watch.wait_for(|members| !members.is_empty()).await.unwrap();
        assert_eq!(registry.expire(now + secs(5)), None);
        watch.wait_for(Vec::is_empty).await.unwrap();
        let members: Vec<_> = (0..10).map(|at| member(&at.to_string(), 0)).collect();
        for member in &members {
            let ttl = Some(secs(5));
            registry.insert("hub", member.clone(), ttl, now).unwrap();
        }
        registry.expire(now + secs(5));
        let again = registry.announce("hub", members[0].clone()).await.unwrap();
        assert_eq!(
            registry.numbered(),
            1,
            "nothing is kept of what has expired"
        );
        drop(again);
        assert_eq!(registry.numbered(), 0);
    }

    #[tokio::test]
    async fn a_name_gives_each_of_its_addresses_and_an_unknown_one_an_error() {
        let registry = DnsRegistry::new(7400, secs(3600));
        let members = registry
            .resolve(&Query::service("127.0.0.1"))
            .await
            .unwrap();
        assert_eq!(names(&members), ["127.0.0.1:7400"]);
        let local = registry
            .watch(&Query::service("localhost:81"))
            .await
            .unwrap();
        let all_local = local
            .borrow()
            .iter()
            .all(|it| it.addresses[0].ip().is_loopback());
        assert!(all_local && !local.borrow().is_empty());
        let unknown = registry
            .resolve(&Query::service("no-such-host.invalid"))
            .await;
        assert!(matches!(unknown, Err(RegistryError::Source { .. })));
        let announced = registry.announce("hub", member("a", 0)).await;
        assert!(matches!(announced, Err(RegistryError::ReadOnly)));
        let labelled = Query::service("127.0.0.1").label("zone", "west");
        assert!(registry.resolve(&labelled).await.unwrap().is_empty());
    }
}
