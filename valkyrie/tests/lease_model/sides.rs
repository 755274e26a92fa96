//! What issuers and holders do with what reaches them.
//! Must not choose what happens next: the world does.

use valkyrie::lease::{Answer, Beat, Grant, Outcome, Reply, ReportStep, Slot};

use super::{LEADERSHIP, Message, State, at};

pub(super) fn may_lead(state: &State, index: usize) -> bool {
    match state.leader {
        None => true,
        Some((leader, until)) if leader == index => until < state.tick + LEADERSHIP,
        Some((_, until)) => state.tick >= until,
    }
}

/// The holder's timer: what it sends goes into the network.
pub(super) fn poll(state: &mut State, holder: usize) {
    let now = state.holder_now(holder);
    let place = &mut state.holders[holder];
    let pulse = place.machine.poll(now);
    place.stopping |= pulse.stop;
    if let Some(beat) = pulse.beat {
        let holding = pulse.holding.map(|slot| slot.fence);
        let message = Message::Beat(holder, beat.incarnation, beat.number, holding);
        state.net.insert(message);
        state.forget_old_beats(holder, beat.number);
        for (slot, outcome) in pulse.reports {
            let done = outcome == Outcome::Done;
            state.net.insert(Message::Report(holder, slot.fence, done));
        }
    }
}

/// A write reaches the store, which compares the fence and the end with what the issuer knew.
pub(super) fn write(state: &mut State, index: usize) {
    let now = at(state.tick);
    let seat = state.issuers[index].as_mut().expect("it has a write");
    let next = seat.write.take().expect("it has a write");
    if *seat.machine.record() != state.store {
        seat.machine.conflict();
        state.issuers[index] = None;
        return;
    }
    state.fence_fell |= next.fence < state.store.fence;
    state.store = next.clone();
    let holder = next.holder.expect("it is given to someone");
    if let Some(grant) = seat.machine.written(seat.beats[holder], now) {
        state.net.insert(offer(holder, grant));
    }
    if next.ended {
        state.endings += 1;
        state.net.insert(Message::Answered(holder, next.fence));
    } else {
        state.issued += 1;
    }
}

fn offer(holder: usize, grant: Grant) -> Message {
    let Grant { fence, beat } = grant;
    Message::Offer(holder, fence, beat.incarnation, beat.number)
}

pub(super) fn to_issuer(state: &mut State, index: usize, message: Message) {
    let now = at(state.tick);
    let Some(seat) = &mut state.issuers[index] else {
        return;
    };
    match message {
        Message::Beat(holder, incarnation, number, holding) => {
            let beat = Beat {
                incarnation,
                number,
            };
            let known = &mut seat.beats[holder];
            if known.is_none_or(|known| (incarnation, number) > (known.incarnation, known.number)) {
                *known = Some(beat);
            }
            match seat.machine.beat(&holder, beat, holding, now) {
                Some(Reply::Offer(grant)) => {
                    state.net.insert(offer(holder, grant));
                }
                Some(Reply::Renewed(Grant { fence, beat })) => {
                    let Beat {
                        incarnation,
                        number,
                    } = beat;
                    let message = Message::Renewed(holder, fence, incarnation, number);
                    state.net.insert(message);
                }
                Some(Reply::Revoked(fence)) => {
                    state.net.insert(Message::Revoked(holder, fence));
                }
                None => {}
            }
        }
        Message::Report(holder, fence, done) => {
            let outcome = if done {
                Outcome::Done
            } else {
                Outcome::Released
            };
            match seat.machine.report(&holder, fence, outcome, now) {
                ReportStep::Acknowledge => {
                    state.net.insert(Message::Answered(holder, fence));
                }
                ReportStep::Write(record) => seat.write = Some(record),
                ReportStep::Wait => {}
            }
        }
        _ => unreachable!("for holders"),
    }
}

pub(super) fn to_holder(state: &mut State, message: Message) {
    let grant = |fence, incarnation, number| Grant {
        fence,
        beat: Beat {
            incarnation,
            number,
        },
    };
    let slot = |fence| Slot { key: (), fence };
    let holder = match message {
        Message::Offer(holder, fence, incarnation, number) => {
            let now = state.holder_now(holder);
            let place = &mut state.holders[holder];
            let answer = place
                .machine
                .offer((), grant(fence, incarnation, number), now);
            if answer == Answer::Start {
                assert!(place.running.is_none(), "the place was free");
                place.running = Some(fence);
                state.starts[fence.0 as usize - 1] += 1;
            }
            holder
        }
        Message::Renewed(holder, fence, incarnation, number) => {
            let now = state.holder_now(holder);
            let machine = &mut state.holders[holder].machine;
            machine.renewed(grant(fence, incarnation, number), now);
            holder
        }
        Message::Revoked(holder, fence) => {
            let place = &mut state.holders[holder];
            place.stopping |= place.machine.revoked(&slot(fence));
            holder
        }
        Message::Answered(holder, fence) => {
            let now = state.holder_now(holder);
            state.holders[holder].machine.answered(&slot(fence), now);
            holder
        }
        _ => unreachable!("for issuers"),
    };
    poll(state, holder);
}
