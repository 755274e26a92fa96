//! Single steps of issuer and holder; `tests/lease_model.rs` has every order of them.
//! Must not need a clock.

use std::time::{Duration, Instant};

use super::*;

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn beat(number: u64) -> Beat {
    Beat {
        incarnation: 7,
        number,
    }
}

/// An issuer that leads for a day and has offered to `anna` on beat 1.
fn offered(now: Instant) -> Issuer<&'static str> {
    let mut issuer =
        Issuer::take_over(Record::default(), Terms::default(), now + secs(86_400), now);
    let record = issuer.assign("anna", now).unwrap();
    assert_eq!((record.fence, record.holder), (Fence(1), Some("anna")));
    assert!(issuer.assign("bert", now).is_none(), "a write is under way");
    let grant = issuer.written(Some(beat(1)), now).unwrap();
    assert_eq!((grant.fence, grant.beat), (Fence(1), beat(1)));
    issuer
}

#[test]
fn an_offer_is_repeated_on_each_beat_until_a_beat_names_its_fence() {
    let now = Instant::now();
    let mut issuer = offered(now);
    for number in 2..4 {
        let reply = issuer.beat(&"anna", beat(number), None, now + secs(number));
        assert!(matches!(reply, Some(Reply::Offer(grant)) if grant.beat == beat(number)));
    }
    let accepted = issuer.beat(&"anna", beat(4), Some(Fence(1)), now + secs(5));
    assert!(matches!(accepted, Some(Reply::Renewed(_))));
    assert_eq!(issuer.beat(&"anna", beat(5), None, now + secs(6)), None);
    assert_eq!(issuer.poll(now + secs(39)), (false, Some(now + secs(40))));
    assert_eq!(
        issuer.poll(now + secs(40)),
        (true, None),
        "30 s and 5 s for clocks"
    );
}

#[test]
fn an_offer_that_nobody_takes_is_given_to_another_under_the_next_fence() {
    let now = Instant::now();
    let mut issuer = offered(now);
    assert_eq!(issuer.poll(now), (false, Some(now + secs(20))));
    assert_eq!(issuer.poll(now + secs(20)), (false, Some(now + secs(35))));
    let record = issuer.assign("bert", now + secs(35)).unwrap();
    assert_eq!((record.fence, record.holder), (Fence(2), Some("bert")));
    issuer.written(None, now + secs(35));
    let late = issuer.beat(&"anna", beat(9), Some(Fence(1)), now + secs(36));
    assert_eq!(late, Some(Reply::Revoked(Fence(1))));
}

#[test]
fn an_issuer_that_leads_no_more_grants_nothing_and_takes_no_result() {
    let now = Instant::now();
    let mut old = offered(now);
    let mut issuer = Issuer::take_over(old.record().clone(), Terms::default(), now, now);
    for issuer in [&mut issuer, &mut old] {
        let late = now + secs(86_400);
        assert_eq!(issuer.beat(&"anna", beat(2), Some(Fence(1)), late), None);
        assert_eq!(issuer.beat(&"anna", beat(3), None, late), None);
        let step = issuer.report(&"anna", Fence(1), Outcome::Done, late);
        assert_eq!(step, ReportStep::Wait);
        assert!(issuer.assign("bert", late).is_none());
    }
}

#[test]
fn a_new_leader_waits_for_the_leases_of_the_one_before_and_goes_on_with_a_live_holder() {
    let now = Instant::now();
    let record = offered(now).record().clone();
    let mut issuer = Issuer::take_over(record, Terms::default(), now + secs(999), now);
    assert_eq!(issuer.poll(now), (false, Some(now + secs(35))));
    let reply = issuer.beat(&"anna", beat(3), Some(Fence(1)), now + secs(8));
    assert!(matches!(reply, Some(Reply::Renewed(_))));
    assert_eq!(issuer.poll(now + secs(36)), (false, Some(now + secs(43))));
}

#[test]
fn a_result_is_written_once_and_an_old_one_is_answered_without_effect() {
    let now = Instant::now();
    let mut issuer = offered(now);
    let ReportStep::Write(record) = issuer.report(&"anna", Fence(1), Outcome::Done, now) else {
        panic!("the result counts");
    };
    assert!(record.ended);
    let again = issuer.report(&"anna", Fence(1), Outcome::Done, now);
    assert_eq!(again, ReportStep::Wait, "not durable yet");
    issuer.written(None, now);
    let again = issuer.report(&"anna", Fence(1), Outcome::Done, now);
    assert_eq!(again, ReportStep::Acknowledge);
    assert!(issuer.assign("bert", now).is_none());

    let mut issuer = offered(now);
    issuer.report(&"anna", Fence(1), Outcome::Released, now);
    issuer.assign("bert", now).unwrap();
    issuer.written(None, now);
    let old = issuer.report(&"anna", Fence(1), Outcome::Done, now);
    assert_eq!(old, ReportStep::Acknowledge);
    assert!(!issuer.record().ended);
}

#[test]
fn after_a_lost_race_for_the_record_an_issuer_does_nothing() {
    let now = Instant::now();
    let mut issuer = offered(now);
    issuer.conflict();
    assert_eq!(issuer.beat(&"anna", beat(2), Some(Fence(1)), now), None);
    assert_eq!(issuer.poll(now + secs(999)), (false, None));
}

fn grant(fence: u64, number: u64) -> Grant {
    Grant {
        fence: Fence(fence),
        beat: beat(number),
    }
}

#[test]
fn a_holder_counts_its_lease_from_the_beat_and_stops_by_itself() {
    let now = Instant::now();
    let mut holder = Holder::new(Terms::default(), 7, now);
    assert_eq!(holder.poll(now).beat, Some(beat(1)));
    assert_eq!(
        holder.offer("oak", grant(3, 1), now + secs(9)),
        Answer::Start
    );
    let accept = holder.poll(now + secs(9));
    assert_eq!(accept.beat, Some(beat(2)), "the acceptance does not wait");
    assert_eq!(accept.holding.map(|slot| slot.fence), Some(Fence(3)));
    holder.renewed(grant(3, 2), now + secs(18));
    let pulse = holder.poll(now + secs(28));
    assert!(!pulse.stop && pulse.next == now + secs(29));
    let pulse = holder.poll(now + secs(29));
    assert!(pulse.stop, "20 s after the beat that was answered");
    holder.renewed(grant(3, 3), now + secs(29));
    assert!(!holder.poll(now + secs(30)).stop, "said once");
    holder.ended(Outcome::Released, now + secs(30));
    let slot = Slot {
        key: "oak",
        fence: Fence(3),
    };
    let report = (slot.clone(), Outcome::Released);
    assert_eq!(
        holder.poll(now + secs(30)).reports,
        std::slice::from_ref(&report)
    );
    assert_eq!(
        holder.poll(now + secs(40)).reports,
        [report],
        "until it is answered"
    );
    holder.answered(&slot, now + secs(41));
    assert!(holder.poll(now + secs(42)).reports.is_empty());
    let again = holder.offer("oak", grant(3, 5), now + secs(43));
    assert_eq!(again, Answer::Ended, "a fence starts once");
}

#[test]
fn a_holder_takes_no_offer_that_is_late_from_another_life_or_a_second_one() {
    let now = Instant::now();
    let mut holder = Holder::new(Terms::default(), 7, now);
    holder.poll(now);
    let other_life = Grant {
        fence: Fence(1),
        beat: Beat {
            incarnation: 6,
            number: 1,
        },
    };
    assert_eq!(holder.offer("oak", other_life, now), Answer::Stale);
    assert_eq!(
        holder.offer("oak", grant(1, 1), now + secs(20)),
        Answer::Stale
    );
    holder.poll(now + secs(20));
    assert_eq!(
        holder.offer("oak", grant(1, 2), now + secs(21)),
        Answer::Start
    );
    assert_eq!(
        holder.offer("oak", grant(1, 2), now + secs(21)),
        Answer::Working
    );
    assert_eq!(
        holder.offer("elm", grant(4, 2), now + secs(21)),
        Answer::Busy
    );
    let reports = holder.poll(now + secs(21)).reports;
    assert_eq!(
        reports.len(),
        1,
        "what it does not take is given back at once"
    );
    assert_eq!((reports[0].0.key, reports[0].1), ("elm", Outcome::Released));
    let slot = holder.holding().cloned().unwrap();
    assert!(holder.revoked(&slot) && !holder.revoked(&slot));
}

#[test]
fn the_default_terms_are_sound_and_contradictions_are_named() {
    assert_eq!(Terms::default().fault(), None);
    let none = Terms {
        ttl: Duration::ZERO,
        ..Terms::default()
    };
    assert!(none.fault().is_some());
    let late = Terms {
        margin: secs(20),
        ..Terms::default()
    };
    assert!(late.fault().is_some());
}
