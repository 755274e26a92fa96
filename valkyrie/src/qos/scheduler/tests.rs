//! Order and shares of a scheduler, in virtual time.
//! Must not use real time.

use proptest::prelude::*;

use super::*;

const PIECE: u64 = 16 * 1024;

fn fresh() -> (Scheduler, Instant) {
    let now = Instant::now();
    (Scheduler::new(QosPolicy::default(), now), now)
}

/// Asks for `count` pieces of one stream per tenant.
fn fill(scheduler: &mut Scheduler, class: Class, tenant: u64, count: u64) {
    for _ in 0..count {
        let stream = u64::from(class.number()) * 1000 + tenant;
        scheduler
            .ask(class, Tenant::Named(tenant), stream, PIECE)
            .unwrap();
    }
}

/// Takes grants, each delivered a millisecond later, and counts bytes per class.
fn drain(scheduler: &mut Scheduler, mut now: Instant, most: u64) -> [u64; 4] {
    let mut sums = [0; 4];
    let mut sent: HashMap<u64, u64> = HashMap::new();
    for _ in 0..most {
        let Some(grant) = scheduler.next(now) else {
            break;
        };
        sums[index(grant.class)] += grant.bytes;
        now += Duration::from_millis(1);
        sent.extend(scheduler.flight.sent());
        for (stream, sent) in &sent {
            scheduler.reported(*stream, *sent, now);
        }
    }
    sums
}

#[test]
fn control_goes_first_and_the_others_share_by_their_weights() {
    let (mut scheduler, now) = fresh();
    for class in [Class::Bulk, Class::Log, Class::Job] {
        fill(&mut scheduler, class, 1, 2000);
    }
    fill(&mut scheduler, Class::Control, 1, 1);
    assert_eq!(
        scheduler.next(now).map(|grant| grant.class),
        Some(Class::Control)
    );
    let [_, job, log, bulk] = drain(&mut scheduler, now, 1300);
    let all = job + log + bulk;
    for (part, weight) in [(job, 8), (log, 4), (bulk, 1)] {
        let per_mille = part * 1000 / all;
        let due = weight * 1000 / 13;
        assert!(
            per_mille.abs_diff(due) <= 60,
            "{part} of {all} for {weight}"
        );
    }
    assert!(bulk * 100 / all >= 5, "bulk has its floor");
}

#[test]
fn a_flood_of_control_takes_its_rate_and_then_no_more_than_a_job() {
    let (mut scheduler, now) = fresh();
    for class in [Class::Control, Class::Job, Class::Log, Class::Bulk] {
        fill(&mut scheduler, class, 1, 3000);
    }
    let mut sums = [0; 4];
    // All at one moment, so that the rate adds nothing to the burst.
    for _ in 0..200 {
        let Some(grant) = scheduler.next(now) else {
            break;
        };
        sums[index(grant.class)] += grant.bytes;
    }
    let [control, job, log, bulk] = sums;
    assert!(control >= 64 * 1024);
    assert!(job > 0 && log > 0 && bulk > 0, "{sums:?}");
}

#[test]
fn a_lone_class_gets_everything() {
    for class in Class::ALL {
        let (mut scheduler, now) = fresh();
        fill(&mut scheduler, class, 1, 100);
        assert_eq!(
            drain(&mut scheduler, now, 1000)[index(class)],
            100 * PIECE,
            "{class:?}"
        );
    }
}

#[test]
fn tenants_share_a_class_whatever_each_asks_for() {
    let (mut scheduler, now) = fresh();
    fill(&mut scheduler, Class::Bulk, 1, 3000);
    fill(&mut scheduler, Class::Bulk, 2, 100);
    fill(&mut scheduler, Class::Bulk, 3, 100);
    drain(&mut scheduler, now, 240);
    let left = |tenant| {
        scheduler.queues[3].tenants[&Tenant::Named(tenant)]
            .wishes
            .len() as u64
    };
    let sent = [3000 - left(1), 100 - left(2), 100 - left(3)];
    for part in sent {
        assert!(part.abs_diff(80) <= 8, "{sent:?}");
    }
}

#[test]
fn bulk_stops_at_its_budget_while_jobs_and_control_go_on() {
    let (mut scheduler, now) = fresh();
    fill(&mut scheduler, Class::Bulk, 1, 1000);
    let mut bulk = 0;
    while let Some(grant) = scheduler.next(now) {
        bulk += grant.bytes;
    }
    assert_eq!(bulk, scheduler.budget(Class::Bulk).unwrap().limit());
    fill(&mut scheduler, Class::Job, 1, 1);
    fill(&mut scheduler, Class::Control, 1, 1);
    fill(&mut scheduler, Class::Log, 1, 1);
    let next: Vec<_> = std::iter::from_fn(|| scheduler.next(now))
        .map(|g| g.class)
        .collect();
    assert_eq!(next, [Class::Control, Class::Job, Class::Log]);
    scheduler.reported(3001, PIECE, now + Duration::from_millis(1));
    let later = now + Duration::from_millis(1);
    assert_eq!(
        scheduler.next(later).map(|grant| grant.class),
        Some(Class::Bulk)
    );
}

#[test]
fn a_stream_that_nobody_reads_does_not_hold_up_another() {
    let (mut scheduler, now) = fresh();
    fill(&mut scheduler, Class::Bulk, 1, 16);
    while scheduler.next(now).is_some() {}
    fill(&mut scheduler, Class::Bulk, 2, 1);
    assert_eq!(scheduler.next(now), None, "the budget is used up");
    let wake = scheduler.wake(now).unwrap();
    assert_eq!(wake, now + QosPolicy::default().parked);
    assert!(scheduler.next(wake).is_some(), "the first stream is parked");
    // It is read again: what it has under way counts again.
    scheduler.reported(3001, 1, wake);
    assert_eq!(
        scheduler.budget(Class::Bulk).unwrap().in_flight(),
        16 * PIECE - 1 + PIECE
    );
    scheduler.ended(3001);
    assert_eq!(scheduler.budget(Class::Bulk).unwrap().in_flight(), PIECE);
}

#[test]
fn a_finished_stream_is_forgotten_once_it_has_arrived_or_nobody_reads_it() {
    let (mut scheduler, now) = fresh();
    fill(&mut scheduler, Class::Bulk, 1, 2);
    fill(&mut scheduler, Class::Bulk, 2, 2);
    while scheduler.next(now).is_some() {}
    scheduler.finished(3001);
    scheduler.finished(3002);
    assert_eq!(scheduler.streams(), 2);
    scheduler.reported(3001, 2 * PIECE, now + Duration::from_millis(1));
    assert_eq!(scheduler.streams(), 1);
    scheduler.next(now + QosPolicy::default().parked);
    assert_eq!(scheduler.streams(), 0);
    assert_eq!(scheduler.budget(Class::Bulk).unwrap().in_flight(), 0);
}

#[test]
fn bytes_before_the_first_leave_do_not_count_and_unused_leave_is_given_back() {
    let (mut scheduler, now) = fresh();
    scheduler.begin(Class::Bulk, 7, 100, now);
    scheduler
        .ask(Class::Bulk, Tenant::Named(7), 7, PIECE)
        .unwrap();
    scheduler.next(now).unwrap();
    scheduler.reported(7, 100, now);
    assert_eq!(scheduler.budget(Class::Bulk).unwrap().in_flight(), PIECE);
    scheduler.reported(7, 100 + PIECE, now + Duration::from_millis(1));
    assert_eq!(scheduler.budget(Class::Bulk).unwrap().in_flight(), 0);
    scheduler
        .ask(Class::Bulk, Tenant::Named(7), 7, PIECE)
        .unwrap();
    scheduler.next(now).unwrap();
    scheduler.unused(7, PIECE);
    assert_eq!(scheduler.budget(Class::Bulk).unwrap().in_flight(), 0);
}

#[test]
fn readers_that_do_not_read_fill_no_more_than_a_part_of_the_connection() {
    let (mut scheduler, mut now) = fresh();
    let mut sent = 0;
    for stream in 0..200 {
        for _ in 0..20 {
            scheduler
                .ask(Class::Bulk, Tenant::Named(stream), stream, PIECE)
                .unwrap();
        }
    }
    for _ in 0..200 {
        while let Some(grant) = scheduler.next(now) {
            sent += grant.bytes;
        }
        now += QosPolicy::default().parked;
    }
    let most = QosPolicy::default().parked_most + QosPolicy::default().budgets[2].start + PIECE;
    assert!(sent <= most, "{sent} bytes, and nobody reads");
    assert!(scheduler.wake(now).is_none(), "only a report can help");
    // One of them reads, and that stream goes on.
    let (stream, all) = scheduler.flight.sent().next().unwrap();
    scheduler.reported(stream, all, now);
    assert!(scheduler.next(now).is_some());
}

#[test]
fn a_stream_that_was_quiet_for_long_goes_on_without_a_report() {
    let (mut scheduler, now) = fresh();
    scheduler.ask(Class::Log, Tenant::Named(1), 1, 100).unwrap();
    assert!(scheduler.next(now).is_some());
    let later = now + Duration::from_secs(60);
    scheduler.ask(Class::Log, Tenant::Named(1), 1, 100).unwrap();
    assert!(
        scheduler.next(later).is_some(),
        "so few bytes are never reported"
    );
}

#[test]
fn a_tenants_rate_limits_it_alone() {
    let now = Instant::now();
    let policy = QosPolicy {
        tenant: Some(Rate::new(PIECE, 2 * PIECE)),
        ..QosPolicy::default()
    };
    let mut scheduler = Scheduler::new(policy, now);
    fill(&mut scheduler, Class::Bulk, 1, 5);
    fill(&mut scheduler, Class::Bulk, 2, 1);
    let granted = std::iter::from_fn(|| scheduler.next(now)).count();
    assert_eq!(granted, 3, "two of the first tenant, one of the second");
    let wake = scheduler.wake(now);
    assert!(wake.is_some_and(|wake| wake <= now + Duration::from_secs(1)));
    let second = now + Duration::from_secs(1);
    assert_eq!(std::iter::from_fn(|| scheduler.next(second)).count(), 1);
}

#[test]
fn no_more_wait_than_may_and_a_wish_can_be_taken_back() {
    let now = Instant::now();
    let policy = QosPolicy {
        waiting: 3,
        ..QosPolicy::default()
    };
    let mut scheduler = Scheduler::new(policy, now);
    fill(&mut scheduler, Class::Log, 1, 2);
    let third = scheduler.ask(Class::Log, Tenant::Named(2), 9, 1).unwrap();
    assert_eq!(scheduler.ask(Class::Log, Tenant::Named(3), 9, 1), Err(Full));
    scheduler.cancel(Class::Log, Tenant::Named(2), third);
    assert_eq!(scheduler.waiting(Class::Log), 2);
    assert_eq!(std::iter::from_fn(|| scheduler.next(now)).count(), 2);
    assert_eq!(scheduler.wake(now), None);
}

#[test]
fn leave_is_given_at_once_only_while_nobody_waits_and_there_is_room() {
    let (mut scheduler, now) = fresh();
    let tenant = Tenant::Alone(7);
    let at_once =
        |scheduler: &mut Scheduler, class| scheduler.at_once(class, tenant, 7, PIECE, now);
    let mut bulk = 0;
    while at_once(&mut scheduler, Class::Bulk) {
        bulk += PIECE;
    }
    let budget = scheduler.budget(Class::Bulk).unwrap();
    assert_eq!((bulk, budget.in_flight()), (budget.limit(), bulk));
    assert!(at_once(&mut scheduler, Class::Control) && at_once(&mut scheduler, Class::Job));
    fill(&mut scheduler, Class::Bulk, 1, 1);
    for class in Class::ALL {
        assert!(
            !at_once(&mut scheduler, class),
            "{class:?} before one that waits"
        );
    }
}

#[test]
fn jobs_fill_their_budget_and_leave_the_rest_to_the_others() {
    let (mut scheduler, now) = fresh();
    fill(&mut scheduler, Class::Job, 1, 1000);
    let jobs: u64 = std::iter::from_fn(|| scheduler.next(now))
        .map(|g| g.bytes)
        .sum();
    assert_eq!(jobs, scheduler.budget(Class::Job).unwrap().limit());
    fill(&mut scheduler, Class::Control, 1, 1);
    fill(&mut scheduler, Class::Log, 1, 1);
    let next: Vec<_> = std::iter::from_fn(|| scheduler.next(now))
        .map(|g| g.class)
        .collect();
    assert_eq!(next, [Class::Control, Class::Log]);
}

#[test]
fn a_tenants_rate_holds_at_once_too() {
    let now = Instant::now();
    let policy = QosPolicy {
        tenant: Some(Rate::new(PIECE, 2 * PIECE)),
        ..QosPolicy::default()
    };
    let mut scheduler = Scheduler::new(policy, now);
    let mut leave = |class, tenant| scheduler.at_once(class, Tenant::Named(tenant), 7, PIECE, now);
    assert!(leave(Class::Log, 1) && leave(Class::Bulk, 1) && !leave(Class::Log, 1));
    assert!(leave(Class::Log, 2) && leave(Class::Job, 1) && leave(Class::Control, 1));
}

proptest! {
    #[test]
    fn nobody_waits_for_ever_and_every_wish_is_granted_once(
        wishes in prop::collection::vec((0u32..4, 0u64..4, 1u64..200_000), 1..80),
        cancel in prop::collection::vec(any::<bool>(), 80),
    ) {
        let mut now = Instant::now();
        let policy = QosPolicy {
            parked_most: u64::MAX,
            quiet: u64::MAX,
            ..QosPolicy::default()
        };
        let mut scheduler = Scheduler::new(policy, now);
        let mut open = std::collections::BTreeSet::new();
        for ((class, tenant, bytes), cancel) in wishes.into_iter().zip(cancel) {
            let class = Class::from_number(class);
            let stream = u64::from(class.number()) * 10 + tenant;
            let tenant = Tenant::Named(tenant);
            let ticket = scheduler.ask(class, tenant, stream, bytes).unwrap();
            if cancel {
                scheduler.cancel(class, tenant, ticket);
            } else {
                open.insert(ticket);
            }
        }
        let mut idle = 0;
        while !open.is_empty() {
            match scheduler.next(now) {
                Some(grant) => prop_assert!(open.remove(&grant.ticket), "granted twice"),
                None => {
                    // Nothing is ever reported: parking alone must let the rest through.
                    idle += 1;
                    prop_assert!(idle < 200, "{} wait for ever", open.len());
                    now = scheduler.wake(now).expect("somebody waits");
                }
            }
        }
        for class in Class::ALL {
            prop_assert_eq!(scheduler.waiting(class), 0);
        }
    }
}
