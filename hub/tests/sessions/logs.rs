//! Log streams: exact offsets through cuts, fences and bad bytes.
//! Must not trust the agent's side: what storage holds is compared.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runner_messages::{
    CancelReason, JobKey, LogAck, LogChunk, LogClose, LogMessage, LogMessageKind, LogOpen, method,
};
use storage::{LogKey, LogStatus, Logs, follow};
use tokio::sync::watch;
use valkyrie::endpoint::{CallError, Class, Code, Method, Rx, Session, Tx};

use crate::world::{World, agent_id, key, log_key, offer, soon};

fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

async fn open(session: &Session, key: &JobKey) -> Result<(Tx, Rx, LogAck), CallError> {
    let head = LogOpen {
        job: Some(key.clone()),
        step_index: 1,
    }
    .encode_to_vec();
    let method = Method(method::LOG_APPEND);
    let (tx, mut rx) = session.open(method, head.into(), Class::Log).await?;
    let first = ack(&mut rx).await?;
    Ok((tx, rx, first))
}

async fn ack(rx: &mut Rx) -> Result<LogAck, CallError> {
    let message = soon("an acknowledgement", rx.recv()).await?;
    let message = message.ok_or_else(|| CallError::unavailable("the stream ended"))?;
    Ok(LogAck::decode(message).expect("an acknowledgement"))
}

fn chunk(offset: u64, bytes: &[u8]) -> Bytes {
    let chunk = LogChunk {
        offset,
        bytes: Bytes::copy_from_slice(bytes),
        crc32c: crc32c::crc32c(bytes),
    };
    encoded(LogMessageKind::Chunk(chunk))
}

fn close(content: &[u8]) -> Bytes {
    let blake3 = blake3::hash(content).as_bytes().to_vec();
    encoded(LogMessageKind::Close(LogClose {
        end: content.len() as u64,
        blake3,
    }))
}

fn encoded(kind: LogMessageKind) -> Bytes {
    LogMessage { kind: Some(kind) }.encode_to_vec().into()
}

/// One stream from the durable end on, in pieces of random size, some sent twice.
async fn send_rest(
    session: &Session,
    key: &JobKey,
    content: &[u8],
    random: &mut StdRng,
) -> Result<(), CallError> {
    let (mut tx, mut rx, first) = open(session, key).await?;
    if first.closed {
        return Ok(());
    }
    let mut offset = first.durable_end as usize;
    while offset < content.len() {
        let end = (offset + random.random_range(1..4000)).min(content.len());
        let from = offset.saturating_sub(random.random_range(0..200));
        tx.send(chunk(from as u64, &content[from..end])).await?;
        offset = end;
    }
    tx.send(close(content)).await?;
    loop {
        let ack = ack(&mut rx).await?;
        assert!(ack.durable_end <= content.len() as u64);
        if ack.closed {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn through_any_cuts_and_restarts_a_log_is_stored_once_and_whole() {
    let mut broken = 0;
    for seed in 0..12 {
        let mut world = World::new().await;
        let oak = key("oak", 5);
        world.hub.expect(agent_id("a"), offer(&oak));
        let agent = world.agent("a").await;
        let content = text(200_000, seed);
        let sender = tokio::spawn({
            let (content, oak) = (content.clone(), oak.clone());
            async move {
                let mut random = StdRng::seed_from_u64(seed);
                let mut broken = 0;
                while let Err(error) = send_rest(&agent.session, &oak, &content, &mut random).await
                {
                    assert!(
                        error.retryable || error.code == Code::Unavailable,
                        "{error:?}"
                    );
                    broken += 1;
                    tokio::task::yield_now().await;
                }
                broken
            }
        });
        let mut random = StdRng::seed_from_u64(seed + 1000);
        let mut watch = world.logs.watch(&log_key(&oak, 1));
        for cut in 0..6 {
            // Each cut comes when more has become durable, at a random place after it.
            if soon("more", watch.changed()).await.is_err() || watch.borrow().closed {
                break;
            }
            for _ in 0..random.random_range(0..40) {
                tokio::task::yield_now().await;
            }
            if cut == 3 {
                world.restart().await;
                world.hub.expect(agent_id("a"), offer(&oak));
            } else {
                world.network.cut();
            }
        }
        broken += soon("the whole log", sender).await.expect("no panic");
        let status = world
            .logs
            .status(&log_key(&oak, 1))
            .await
            .expect("a status");
        assert_eq!(
            status,
            LogStatus {
                end: 200_000,
                closed: true
            },
            "seed {seed}"
        );
        let stored = world
            .logs
            .read(&log_key(&oak, 1), 0, 1 << 20)
            .await
            .expect("read");
        assert!(stored == content, "seed {seed}: the stored log differs");
    }
    assert!(
        broken > 12,
        "the faults did not hit: only {broken} streams broke"
    );
}

#[tokio::test]
async fn the_first_answer_is_the_durable_end_and_a_follower_sees_what_is_acknowledged() {
    let world = World::new().await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let agent = world.agent("a").await;
    let stored = log_key(&oak, 1);
    world
        .logs
        .append(&stored, 0, Bytes::from_static(b"acorn "))
        .await
        .expect("appended");
    let mut follower = follow(world.logs.clone(), stored, 0, std::future::pending());
    let (mut tx, mut rx, first) = open(&agent.session, &oak).await.expect("opened");
    assert_eq!(
        first,
        LogAck {
            durable_end: 6,
            closed: false
        }
    );
    tx.send(chunk(6, b"falls")).await.expect("sent");
    assert_eq!(ack(&mut rx).await.expect("durable").durable_end, 11);
    let mut seen = Vec::new();
    while seen.len() < 11 {
        seen.extend(
            soon("bytes", follower.next())
                .await
                .expect("more")
                .expect("no error"),
        );
    }
    assert_eq!(seen, b"acorn falls");
    tx.send(close(b"acorn falls")).await.expect("sent");
    assert!(ack(&mut rx).await.expect("closed").closed);
    assert!(soon("the end", follower.next()).await.is_none());
}

#[tokio::test]
async fn a_wrong_checksum_a_gap_and_a_wrong_digest_store_nothing() {
    let world = World::new().await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let agent = world.agent("a").await;
    let wrong = LogChunk {
        offset: 0,
        bytes: Bytes::from_static(b"worm"),
        crc32c: 7,
    };
    let cases = [
        (encoded(LogMessageKind::Chunk(wrong)), Code::InvalidArgument),
        (chunk(9, b"later"), Code::Unavailable),
        (chunk(0, &vec![7; 128 * 1024 + 1]), Code::InvalidArgument),
        (Bytes::from_static(&[0xff; 9]), Code::InvalidArgument),
    ];
    for (message, code) in cases {
        let (mut tx, mut rx, _) = open(&agent.session, &oak).await.expect("opened");
        tx.send(message).await.expect("sent");
        assert_eq!(ack(&mut rx).await.expect_err("refused").code, code);
    }
    assert_eq!(
        world
            .logs
            .durable_end(&log_key(&oak, 1))
            .await
            .expect("an end"),
        0
    );
    let (mut tx, mut rx, _) = open(&agent.session, &oak).await.expect("opened");
    tx.send(chunk(0, b"acorn")).await.expect("sent");
    tx.send(close(b"ACORN")).await.expect("sent");
    assert_eq!(ack(&mut rx).await.expect("durable").durable_end, 5);
    assert_eq!(
        ack(&mut rx).await.expect_err("refused").code,
        Code::FailedPrecondition
    );
    let status = world
        .logs
        .status(&log_key(&oak, 1))
        .await
        .expect("a status");
    assert_eq!(
        status,
        LogStatus {
            end: 5,
            closed: false
        }
    );
}

#[tokio::test]
async fn an_open_stream_ends_when_its_fence_is_old() {
    let world = World::new().await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let agent = world.agent("a").await;
    let (mut tx, mut rx, _) = open(&agent.session, &oak).await.expect("opened");
    tx.send(chunk(0, b"first")).await.expect("sent");
    assert_eq!(ack(&mut rx).await.expect("durable").durable_end, 5);
    world.hub.expect(agent_id("b"), offer(&key("oak", 6)));
    tx.send(chunk(5, b"second")).await.expect("sent");
    assert_eq!(
        ack(&mut rx).await.expect_err("refused").code,
        Code::FailedPrecondition
    );
    assert_eq!(
        world
            .logs
            .durable_end(&log_key(&oak, 1))
            .await
            .expect("an end"),
        5
    );
}

/// A store whose disk hangs.
struct Stuck;

#[async_trait]
impl Logs for Stuck {
    async fn append(&self, _: &LogKey, _: u64, _: Bytes) -> storage::Result<u64> {
        std::future::pending().await
    }

    async fn close(&self, _: &LogKey, _: u64, _: [u8; 32]) -> storage::Result<()> {
        std::future::pending().await
    }

    async fn status(&self, _: &LogKey) -> storage::Result<LogStatus> {
        Ok(LogStatus::default())
    }

    async fn read(&self, _: &LogKey, _: u64, _: usize) -> storage::Result<Bytes> {
        Ok(Bytes::new())
    }

    fn watch(&self, _: &LogKey) -> watch::Receiver<LogStatus> {
        watch::channel(LogStatus::default()).1
    }

    async fn delete_run(&self, _: &str, _: &str) -> storage::Result<()> {
        Ok(())
    }

    async fn runs(&self) -> storage::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_hanging_disk_bounds_what_is_held_and_delays_no_call() {
    let mut world = World::with_logs(Arc::new(Stuck)).await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let agent = world.agent("a").await;
    let (mut tx, _rx, _) = open(&agent.session, &oak).await.expect("opened");
    let piece = vec![7; 100_000];
    let mut sent = 0;
    while let Ok(result) =
        tokio::time::timeout(Duration::from_millis(300), tx.send(chunk(sent, &piece))).await
    {
        result.expect("sent");
        sent += piece.len() as u64;
        assert!(sent < 16 * 1024 * 1024, "nothing holds the agent back");
    }
    agent.progress(&oak).await.expect("taken");
    world
        .hub
        .cancel(&oak, CancelReason::Cancelled, Duration::ZERO);
    let told = agent.manners.until_told(2).await;
    assert_eq!(told.len(), 2);
    world
        .until(&oak, "steps", |facts| !facts.steps.is_empty())
        .await;
}

#[tokio::test]
async fn a_job_may_have_only_so_many_streams() {
    let world = World::with_logs(Arc::new(Stuck)).await;
    let oak = key("oak", 5);
    world.hub.expect(agent_id("a"), offer(&oak));
    let agent = world.agent("a").await;
    let mut streams = Vec::new();
    for _ in 0..hub::HubConfig::default().log_streams {
        streams.push(open(&agent.session, &oak).await.expect("opened"));
    }
    let refused = open(&agent.session, &oak).await.err().expect("refused");
    assert_eq!(refused.code, Code::ResourceExhausted);
}
