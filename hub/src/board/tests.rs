//! Who may say what about which attempt, and what the board makes of it.
//! Must not need a session.

use std::time::UNIX_EPOCH;

use runner_messages::{EnvEntry, StepSpec};

use super::*;

const WAIT: Duration = Duration::from_secs(3);

fn agent(text: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.test/ns/{text}")).expect("an id")
}

fn key(job: &str, fence: u64) -> JobKey {
    JobKey {
        namespace: "grove".into(),
        run: "spring".into(),
        run_uid: "uid-7".into(),
        job: job.into(),
        attempt: 2,
        fence,
    }
}

fn offer(key: &JobKey) -> Offer {
    let step = StepSpec {
        name: "dig".into(),
        env: vec![EnvEntry::default()],
        ..StepSpec::default()
    };
    Offer {
        job: Some(key.clone()),
        steps: vec![step.clone(), step],
        ..Offer::default()
    }
}

fn board() -> Board {
    Board::new(100, WAIT, 4)
}

fn expect(board: &mut Board, place: &str, key: &JobKey) -> bool {
    board.expect(agent(place), key.clone(), offer(key))
}

fn code(board: &mut Board, peer: &str, key: &JobKey) -> Option<Code> {
    board.find(&agent(peer), key).err().map(|error| error.code)
}

fn report(index: u32, phase: StepPhase) -> StepReport {
    StepReport {
        index,
        state: phase.into(),
        ..StepReport::default()
    }
}

fn result(key: &JobKey, outcome: Outcome) -> JobResult {
    JobResult {
        job: Some(key.clone()),
        outcome: outcome.into(),
        ..JobResult::default()
    }
}

#[test]
fn only_the_expected_agent_may_speak_of_a_job() {
    let mut board = board();
    let oak = key("oak", 5);
    expect(&mut board, "grove/agent/a", &oak);
    assert_eq!(code(&mut board, "grove/agent/a", &oak), None);
    let denied = Some(Code::PermissionDenied);
    assert_eq!(code(&mut board, "grove/agent/b", &oak), denied);
    assert_eq!(code(&mut board, "meadow/agent/a", &oak), denied);
    let moved = JobKey {
        namespace: "meadow".into(),
        ..oak.clone()
    };
    assert_eq!(code(&mut board, "grove/agent/a", &moved), denied);
    let renamed = JobKey {
        run: "autumn".into(),
        ..oak.clone()
    };
    assert_eq!(code(&mut board, "grove/agent/a", &renamed), denied);
}

#[test]
fn a_lower_fence_is_refused_and_a_higher_one_must_wait() {
    let mut board = board();
    expect(&mut board, "grove/agent/a", &key("oak", 5));
    assert!(expect(&mut board, "grove/agent/b", &key("oak", 6)));
    assert!(
        !expect(&mut board, "grove/agent/a", &key("oak", 5)),
        "a lower fence comes late"
    );
    let old = Some(Code::FailedPrecondition);
    assert_eq!(code(&mut board, "grove/agent/a", &key("oak", 5)), old);
    assert_eq!(code(&mut board, "grove/agent/b", &key("oak", 5)), old);
    assert_eq!(code(&mut board, "grove/agent/b", &key("oak", 6)), None);
    assert_eq!(
        code(&mut board, "grove/agent/b", &key("oak", 7)),
        Some(Code::Unavailable)
    );
    // Another namespace learns nothing, whatever the fence.
    assert_eq!(
        code(&mut board, "meadow/agent/a", &key("oak", 5)),
        Some(Code::PermissionDenied)
    );
    assert!(board.due(&agent("grove/agent/a")).is_empty());
}

#[test]
fn an_unknown_job_is_to_be_tried_again_after_the_wait() {
    let mut board = board();
    let error = board
        .find(&agent("grove/agent/a"), &key("oak", 5))
        .err()
        .expect("an error");
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.retryable);
    assert_eq!(error.retry_after, Some(WAIT));
}

#[test]
fn an_offer_is_due_until_it_is_answered_and_never_twice_accepted() {
    let mut board = board();
    let (oak, place) = (key("oak", 5), agent("grove/agent/a"));
    assert!(expect(&mut board, "grove/agent/a", &oak));
    assert!(!expect(&mut board, "grove/agent/a", &oak));
    let due = board.due(&place);
    assert_eq!(due, [(oak.clone(), Delivery::Offer(Arc::new(offer(&oak))))]);
    assert!(board.offer_answered(&oak, None, UNIX_EPOCH + WAIT));
    assert!(!board.offer_answered(&oak, None, UNIX_EPOCH + WAIT * 2));
    assert!(board.due(&place).is_empty());
    assert!(!expect(&mut board, "grove/agent/a", &oak));
    assert!(
        board.due(&place).is_empty(),
        "the same expectation offers nothing again"
    );
    assert_eq!(
        board.exact(&oak).expect("known").accepted_at,
        Some(UNIX_EPOCH + WAIT)
    );
}

#[test]
fn progress_of_a_job_that_this_hub_never_offered_counts_as_acceptance() {
    let mut board = board();
    let oak = key("oak", 5);
    expect(&mut board, "grove/agent/a", &oak);
    let job = board.exact(&oak).expect("known");
    job.report(vec![report(0, StepPhase::Running)], UNIX_EPOCH);
    assert!(board.due(&agent("grove/agent/a")).is_empty());
}

#[test]
fn a_step_never_goes_back() {
    let mut board = board();
    let oak = key("oak", 5);
    expect(&mut board, "grove/agent/a", &oak);
    let job = board.exact(&oak).expect("known");
    for phase in [
        StepPhase::Running,
        StepPhase::Pending,
        StepPhase::Failed,
        StepPhase::Running,
    ] {
        job.report(vec![report(1, phase)], UNIX_EPOCH);
    }
    job.report(vec![report(1, StepPhase::Succeeded)], UNIX_EPOCH);
    assert_eq!(job.steps[&1].state(), StepPhase::Failed);
}

#[test]
fn the_first_result_counts() {
    let mut board = board();
    let oak = key("oak", 5);
    expect(&mut board, "grove/agent/a", &oak);
    let job = board.exact(&oak).expect("known");
    job.end(result(&oak, Outcome::StepFailed), UNIX_EPOCH);
    job.end(result(&oak, Outcome::Succeeded), UNIX_EPOCH);
    assert_eq!(
        job.result.as_ref().map(JobResult::outcome),
        Some(Outcome::StepFailed)
    );
}

#[test]
fn a_refused_offer_is_a_result_that_says_why() {
    let mut board = board();
    let oak = key("oak", 5);
    expect(&mut board, "grove/agent/a", &oak);
    assert!(board.offer_answered(&oak, Some("no shell".into()), UNIX_EPOCH));
    let job = board.exact(&oak).expect("known");
    let result = job.result.clone().expect("a result");
    assert_eq!(result.outcome(), Outcome::Setup);
    assert!(result.message.contains("no shell"));
    assert_eq!(job.accepted_at, None);
    assert!(board.due(&agent("grove/agent/a")).is_empty());
}

#[test]
fn a_cancel_takes_the_place_of_the_offer_and_is_due_until_delivered() {
    let mut board = board();
    let (oak, place) = (key("oak", 5), agent("grove/agent/a"));
    expect(&mut board, "grove/agent/a", &oak);
    let reason = CancelReason::RunTimeout;
    assert_eq!(board.cancel(&oak, reason, WAIT), Some(place.clone()));
    assert_eq!(board.cancel(&oak, reason, WAIT), None, "nothing new");
    let [(_, Delivery::Cancel(request))] = &board.due(&place)[..] else {
        panic!("a cancel is due");
    };
    let request = request.clone();
    assert_eq!((request.reason(), request.grace_ms), (reason, 3000));
    assert!(
        board.cancel_answered(&request, false),
        "the agent never had it"
    );
    let outcome = board
        .exact(&oak)
        .and_then(|job| Some(job.result.as_ref()?.outcome()));
    assert_eq!(outcome, Some(Outcome::RunTimedOut));
    assert!(board.due(&place).is_empty());
}

#[test]
fn a_running_job_ends_by_its_own_result_and_a_shorter_grace_is_told_again() {
    let mut board = board();
    let (oak, place) = (key("oak", 5), agent("grove/agent/a"));
    expect(&mut board, "grove/agent/a", &oak);
    board.offer_answered(&oak, None, UNIX_EPOCH);
    board.cancel(&oak, CancelReason::Cancelled, WAIT);
    let [(_, Delivery::Cancel(first))] = &board.due(&place)[..] else {
        panic!("due")
    };
    let first = first.clone();
    board.cancel(&oak, CancelReason::Cancelled, Duration::ZERO);
    board.cancel_answered(&first, true);
    assert_eq!(
        board.due(&place).len(),
        1,
        "an answer to the first is none to the second"
    );
    let [(_, Delivery::Cancel(second))] = &board.due(&place)[..] else {
        panic!("due")
    };
    let second = second.clone();
    assert!(!board.cancel_answered(&second, true));
    assert!(board.due(&place).is_empty());
    assert!(board.exact(&oak).expect("known").result.is_none());
}

#[test]
fn a_finished_job_is_answered_to_its_namespace_only_and_never_expected_again() {
    let mut board = board();
    let oak = key("oak", 5);
    board.acknowledge(&oak);
    let found = board.find(&agent("grove/agent/a"), &oak);
    assert!(matches!(found, Ok(Found::Finished)));
    assert_eq!(
        code(&mut board, "meadow/agent/a", &oak),
        Some(Code::PermissionDenied)
    );
    assert!(!expect(&mut board, "grove/agent/a", &oak));
    assert!(board.due(&agent("grove/agent/a")).is_empty());
}

#[test]
fn a_forgotten_run_keeps_only_that_its_durable_jobs_are_over() {
    let mut board = board();
    let (oak, elm) = (key("oak", 5), key("elm", 5));
    for key in [&oak, &elm] {
        expect(&mut board, "grove/agent/a", key);
    }
    let mut oak_waits = board.exact(&oak).expect("known").durable.subscribe();
    let elm_waits = board.exact(&elm).expect("known").durable.subscribe();
    board.acknowledge(&oak);
    assert!(*oak_waits.borrow_and_update());
    board.forget_run("uid-7");
    assert!(
        elm_waits.has_changed().is_err(),
        "who waits for elm learns that it is gone"
    );
    assert!(board.runs.is_empty() && board.agents.is_empty());
    assert!(matches!(
        board.find(&agent("grove/agent/a"), &oak),
        Ok(Found::Finished)
    ));
    assert_eq!(
        code(&mut board, "grove/agent/a", &elm),
        Some(Code::Unavailable)
    );
}

#[test]
fn an_attempt_that_is_acknowledged_as_ended_is_not_offered_any_more() {
    let mut board = board();
    let (oak, place) = (key("oak", 5), agent("grove/agent/a"));
    expect(&mut board, "grove/agent/a", &oak);
    board.acknowledge(&oak);
    assert!(board.due(&place).is_empty());
    board.cancel(&oak, CancelReason::Cancelled, WAIT);
    assert_eq!(board.due(&place).len(), 1, "a cancel still reaches it");
}
