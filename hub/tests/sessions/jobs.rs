//! Offers, acceptance, cancels and results, with broken connections and a new hub in between.
//! Must not wait for a fixed time.

use std::time::Duration;

use futures::FutureExt;
use runner_messages::{CancelReason, Outcome};
use valkyrie::endpoint::{CallError, Code};

use crate::world::{Answer, Told, World, agent_id, key, offer, result, soon};

#[tokio::test]
async fn an_expected_job_is_offered_when_its_agent_comes() {
    let mut world = World::new().await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let facts = world.hub.facts("uid-7");
    assert!(!facts[0].connected && facts[0].accepted_at.is_none());
    let agent = world.agent("a").await;
    let told = agent.manners.until_told(1).await;
    assert_eq!(told, [Told::Offer(offer(&oak))]);
    let facts = world
        .until(&oak, "accepted", |facts| facts.accepted_at.is_some())
        .await;
    assert!(facts.connected);
    assert_eq!(facts.result, None);
}

#[tokio::test]
async fn a_job_is_offered_to_its_own_agent_only() {
    let mut world = World::new().await;
    let (a, b) = (world.agent("a").await, world.agent("b").await);
    let (oak, elm) = (key("oak", 5), key("elm", 6));
    world.hub.expect(agent_id("a"), offer(&oak));
    world.hub.expect(agent_id("b"), offer(&elm));
    world
        .until(&oak, "accepted", |facts| facts.accepted_at.is_some())
        .await;
    world
        .until(&elm, "accepted", |facts| facts.accepted_at.is_some())
        .await;
    assert_eq!(*a.manners.told.lock(), [Told::Offer(offer(&oak))]);
    assert_eq!(*b.manners.told.lock(), [Told::Offer(offer(&elm))]);
}

#[tokio::test]
async fn an_offer_is_sent_again_after_failures_and_a_cut_and_not_after_acceptance() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    // Taken from the end: first a failure, then silence, then acceptance.
    let failure = Answer::Fail(CallError::unavailable("the agent starts"));
    agent
        .manners
        .answers
        .lock()
        .extend([Answer::Silence, failure]);
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    agent.manners.until_told(2).await;
    world.network.cut();
    let told = agent.manners.until_told(3).await;
    assert!(told.iter().all(|told| *told == Told::Offer(offer(&oak))));
    world
        .until(&oak, "accepted", |facts| facts.accepted_at.is_some())
        .await;
    world.network.cut();
    world.hub.expect(agent_id("a"), offer(&oak));
    // What comes next is the cancel: no offer was due any more.
    world
        .hub
        .cancel(&oak, CancelReason::Cancelled, Duration::from_secs(2));
    let told = agent.manners.until_told(4).await;
    assert!(matches!(&told[3], Told::Cancel(request) if request.grace_ms == 2000));
}

#[tokio::test]
async fn a_refused_job_ends_in_set_up_with_the_reason() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    agent
        .manners
        .answers
        .lock()
        .push(Answer::Refuse("no shell in the image"));
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let facts = world
        .until(&oak, "refused", |facts| facts.result.is_some())
        .await;
    let result = facts.result.expect("a result");
    assert_eq!(result.outcome(), Outcome::Setup);
    assert!(result.message.contains("no shell in the image"));
}

#[tokio::test]
async fn a_cancel_reaches_an_agent_that_was_away() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    world
        .until(&oak, "accepted", |facts| facts.accepted_at.is_some())
        .await;
    world.network.cut();
    world
        .hub
        .cancel(&oak, CancelReason::RunTimeout, Duration::ZERO);
    let told = agent.manners.until_told(2).await;
    assert!(
        matches!(&told[1], Told::Cancel(request) if request.reason() == CancelReason::RunTimeout)
    );
}

#[tokio::test]
async fn facts_stay_when_the_agent_goes_and_its_going_is_an_event() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    agent.progress(&oak).await.expect("taken");
    world
        .until(&oak, "connected", |facts| {
            facts.connected && !facts.steps.is_empty()
        })
        .await;
    agent.session.close("the end");
    let facts = world.until(&oak, "gone", |facts| !facts.connected).await;
    assert!(facts.accepted_at.is_some());
    assert_eq!(facts.steps.len(), 1);
}

#[tokio::test]
async fn a_result_is_answered_only_when_it_is_acknowledged() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let mut call = Box::pin(agent.result(&oak));
    tokio::select! {
        answer = &mut call => panic!("answered before it was durable: {answer:?}"),
        facts = world.until(&oak, "a result", |facts| facts.result.is_some()) => {
            assert_eq!(facts.result, Some(result(&oak)));
        }
    }
    // A call that needs a whole round trip on the same session overtakes it.
    agent.progress(&oak).await.expect("taken");
    assert!(call.as_mut().now_or_never().is_none());
    world.hub.acknowledge(&oak);
    soon("the answer", call).await.expect("durable");
    soon("a repeat", agent.result(&oak))
        .await
        .expect("still durable");
}

#[tokio::test]
async fn a_result_waits_through_a_cut() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let call = tokio::spawn(async move {
        let answer = agent.result(&key("oak", 5)).await;
        (agent, answer)
    });
    world
        .until(&oak, "a result", |facts| facts.result.is_some())
        .await;
    world.network.cut();
    world.hub.acknowledge(&oak);
    let (_agent, answer) = soon("the answer", call).await.expect("no panic");
    answer.expect("durable");
}

#[tokio::test]
async fn after_a_restart_the_agent_waits_until_its_job_is_expected_and_runs_it_once() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    world
        .until(&oak, "accepted", |facts| facts.accepted_at.is_some())
        .await;
    world.restart().await;
    let early = soon("an answer", agent.result(&oak))
        .await
        .expect_err("not known yet");
    assert_eq!(early.code, Code::Unavailable);
    assert!(early.retryable && early.retry_after.is_some());
    world.hub.expect(agent_id("a"), offer(&oak));
    // The same offer again, which the agent answers as before; nothing else.
    let facts = world
        .until(&oak, "accepted again", |facts| facts.accepted_at.is_some())
        .await;
    assert_eq!(facts.result, None);
    let told = agent.manners.until_told(2).await;
    assert_eq!(told, [Told::Offer(offer(&oak)), Told::Offer(offer(&oak))]);
    let call = tokio::spawn(async move {
        let answer = agent.result(&key("oak", 5)).await;
        (agent, answer)
    });
    world
        .until(&oak, "a result", |facts| facts.result.is_some())
        .await;
    world.hub.acknowledge(&oak);
    let (_agent, answer) = soon("the answer", call).await.expect("no panic");
    answer.expect("durable");
}

#[tokio::test]
async fn after_a_restart_progress_alone_shows_that_the_job_runs() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    agent.manners.answers.lock().push(Answer::Silence);
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    agent.progress(&oak).await.expect("taken");
    let facts = world
        .until(&oak, "accepted", |facts| facts.accepted_at.is_some())
        .await;
    assert_eq!(facts.steps.len(), 1);
}

#[tokio::test]
async fn a_result_that_the_status_has_is_answered_after_a_restart() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    let oak = key("oak", 5);
    world.restart().await;
    world.hub.finished(&oak);
    soon("an answer", agent.result(&oak))
        .await
        .expect("known to be durable");
    soon("an answer", agent.progress(&oak))
        .await
        .expect("nothing to do");
    assert!(world.hub.facts("uid-7").is_empty());
}

#[tokio::test]
async fn forgetting_a_run_lets_the_durable_ones_go_and_refuses_the_others() {
    let mut world = World::new().await;
    let agent = world.agent("a").await;
    let (oak, elm) = (key("oak", 5), key("elm", 6));
    for key in [&oak, &elm] {
        world.hub.expect(agent_id("a"), offer(key));
    }
    world.hub.acknowledge(&oak);
    let mut waiting = Box::pin(agent.result(&elm));
    tokio::select! {
        answer = &mut waiting => panic!("answered: {answer:?}"),
        _ = world.until(&elm, "a result", |facts| facts.result.is_some()) => {}
    }
    world.hub.forget_run("uid-7");
    let refused = soon("an answer", waiting)
        .await
        .expect_err("the run is gone");
    assert_eq!(refused.code, Code::FailedPrecondition);
    soon("an answer", agent.result(&oak))
        .await
        .expect("durable");
    assert!(world.hub.facts("uid-7").is_empty());
}

#[tokio::test]
async fn a_newer_session_of_an_agent_takes_over() {
    let mut world = World::new().await;
    let first = world.agent("a").await;
    let second = world.agent("a").await;
    soon("the old one closes", first.session.closed()).await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let facts = world
        .until(&oak, "accepted", |facts| facts.accepted_at.is_some())
        .await;
    assert!(facts.connected);
    assert_eq!(second.manners.told.lock().len(), 1);
    assert!(first.manners.told.lock().is_empty());
}

#[tokio::test]
async fn a_job_that_is_too_large_to_offer_ends_in_set_up() {
    let mut world = World::new().await;
    let oak = key("oak", 5);
    let mut large = offer(&oak);
    large.steps[0].script = "x".repeat(1024 * 1024);
    world.hub.expect(agent_id("a"), large);
    let facts = world
        .until(&oak, "an end", |facts| facts.result.is_some())
        .await;
    assert_eq!(facts.result.expect("a result").outcome(), Outcome::Setup);
}
