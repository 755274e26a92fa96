//! Who may not do what.
//! Must not stop at the first refusal: each method is tried.

use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use runner_messages::{JobKey, JobResult, LogOpen, Progress, method};
use valkyrie::bootstrap::{IssueReply, IssueRequest, RenewRequest};
use valkyrie::endpoint::{CallContext, CallError, Class, Code, Handler, Method, Peer};

use crate::world::{Agent, World, agent_id, id, key, offer, progress, result, soon};

async fn log_error(agent: &Agent, key: &JobKey, step_index: u32) -> CallError {
    let head = LogOpen {
        job: Some(key.clone()),
        step_index,
    }
    .encode_to_vec();
    let opened = agent
        .session
        .open(Method(method::LOG_APPEND), head.into(), Class::Log)
        .await;
    let (_tx, mut rx) = opened.expect("opened");
    soon("a refusal", rx.recv()).await.expect_err("refused")
}

/// Every way in, tried for a job.
async fn codes(agent: &Agent, key: &JobKey) -> Vec<Code> {
    let progress = soon("progress", agent.progress(key))
        .await
        .expect_err("refused");
    let result = soon("a result", agent.result(key))
        .await
        .expect_err("refused");
    vec![
        progress.code,
        result.code,
        log_error(agent, key, 0).await.code,
    ]
}

#[tokio::test]
async fn another_agent_may_do_nothing_with_a_job() {
    let world = World::new().await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let other = world.agent("b").await;
    assert_eq!(codes(&other, &oak).await, [Code::PermissionDenied; 3]);
    let neighbour = JobKey {
        namespace: "meadow".into(),
        ..oak.clone()
    };
    let agent = world.agent("a").await;
    assert_eq!(codes(&agent, &neighbour).await, [Code::PermissionDenied; 3]);
    let facts = &world.hub.facts("uid-7")[0];
    assert!(facts.steps.is_empty() && facts.result.is_none());
}

#[tokio::test]
async fn an_old_fence_is_refused_for_good() {
    let world = World::new().await;
    let old = key("oak", 5);
    let agent = world.agent("a").await;
    world.hub.expect(agent_id("a"), offer(&old));
    agent.progress(&old).await.expect("taken");
    world.hub.expect(agent_id("b"), offer(&key("oak", 6)));
    assert_eq!(codes(&agent, &old).await, [Code::FailedPrecondition; 3]);
}

#[tokio::test]
async fn a_waiting_result_is_refused_when_its_attempt_is_replaced() {
    let mut world = World::new().await;
    let old = key("oak", 5);
    let agent = world.agent("a").await;
    world.hub.expect(agent_id("a"), offer(&old));
    let mut call = Box::pin(agent.result(&old));
    tokio::select! {
        answer = &mut call => panic!("answered: {answer:?}"),
        _ = world.until(&old, "a result", |facts| facts.result.is_some()) => {}
    }
    world.hub.expect(agent_id("b"), offer(&key("oak", 6)));
    let refused = soon("a refusal", call).await.expect_err("replaced");
    assert_eq!(refused.code, Code::FailedPrecondition);
}

#[tokio::test]
async fn a_job_that_nobody_expects_is_to_be_tried_again() {
    let world = World::new().await;
    let agent = world.agent("a").await;
    assert_eq!(codes(&agent, &key("oak", 5)).await, [Code::Unavailable; 3]);
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused() {
    let world = World::new().await;
    let oak = key("oak", 5);
    let agent = world.agent("a").await;
    world.hub.expect(agent_id("a"), offer(&oak));
    let mut far = progress(&oak, runner_messages::StepPhase::Running);
    far.steps[0].index = 2;
    let mut loud = result(&oak);
    loud.message = "x".repeat(5000);
    let refused = [
        agent.call(method::JOB_PROGRESS, &far).await,
        agent.call(method::JOB_PROGRESS, &Progress::default()).await,
        agent.call(method::JOB_RESULT, &loud).await,
        agent.call(method::JOB_RESULT, &JobResult::default()).await,
    ];
    for answer in refused {
        assert_eq!(answer.expect_err("refused").code, Code::InvalidArgument);
    }
    assert_eq!(log_error(&agent, &oak, 2).await.code, Code::InvalidArgument);
    let unknown = agent
        .call(999, &Progress::default())
        .await
        .expect_err("refused");
    assert_eq!(unknown.code, Code::Unimplemented);
    assert_eq!(world.hub.facts("uid-7")[0].result, None);
}

#[tokio::test]
async fn a_peer_without_a_certificate_may_only_ask_for_one() {
    let world = World::new().await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let session = world.agent("a").await.session;
    let call = |number: u32, body: Vec<u8>| {
        let context = CallContext {
            session: session.clone(),
            peer: Peer::Anonymous,
            deadline: Instant::now() + crate::world::PATIENCE,
            class: Class::Control,
            trace: None,
        };
        world.hub.call(context, Method(number), Bytes::from(body))
    };
    let renew = RenewRequest { csr_der: vec![7] }.encode_to_vec();
    let progress = progress(&oak, runner_messages::StepPhase::Running).encode_to_vec();
    let others = [
        (method::IDENTITY_RENEW, renew),
        (method::JOB_PROGRESS, progress),
        (method::JOB_RESULT, result(&oak).encode_to_vec()),
        (999, Vec::new()),
    ];
    for (number, body) in others {
        let refused = call(number, body).await.expect_err("refused");
        assert_eq!(refused.code, Code::Unauthenticated, "method {number}");
    }
    let issue = |token: &str| IssueRequest {
        token: token.into(),
        csr_der: vec![7],
    };
    let wrong = call(method::IDENTITY_ISSUE, issue("birch").encode_to_vec()).await;
    assert_eq!(wrong.expect_err("refused").code, Code::Unauthenticated);
    let right = call(method::IDENTITY_ISSUE, issue("hazel").encode_to_vec()).await;
    let reply = IssueReply::decode(right.expect("issued")).expect("a reply");
    assert_eq!(reply.chain_der, [vec![7]]);
    assert!(world.hub.facts("uid-7")[0].steps.is_empty());
}

#[tokio::test]
async fn a_certificate_is_renewed_for_who_has_it() {
    let world = World::new().await;
    let agent = world.agent("a").await;
    let renew = RenewRequest { csr_der: vec![7] };
    let reply = agent
        .call(method::IDENTITY_RENEW, &renew)
        .await
        .expect("renewed");
    let reply = IssueReply::decode(reply).expect("a reply");
    assert_eq!(reply.bundle_pem, id("ns/grove/agent/a").to_string());
    let issue = IssueRequest {
        token: "hazel".into(),
        csr_der: vec![7],
    };
    let refused = agent
        .call(method::IDENTITY_ISSUE, &issue)
        .await
        .expect_err("refused");
    assert_eq!(refused.code, Code::PermissionDenied);
}
