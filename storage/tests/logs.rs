//! The file-system storage against a model, in parallel, and followed live.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use storage::{FsLogs, LogError, LogKey, LogStatus, Logs, follow};
use tokio::sync::watch;

fn key(step: u32) -> LogKey {
    LogKey {
        namespace: "grove".into(),
        run_uid: "0f-1".into(),
        job: "larch".into(),
        attempt: 2,
        step,
    }
}

fn storage() -> (tempfile::TempDir, Arc<FsLogs>) {
    let folder = tempfile::tempdir().expect("a folder");
    let logs = Arc::new(FsLogs::open(folder.path()).expect("storage"));
    (folder, logs)
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

#[derive(Clone, Debug)]
enum Operation {
    /// Bytes at the end, moved by so many: back is an overlap, forward a gap.
    Append(i64, Vec<u8>),
    Reopen,
    Close {
        right: bool,
    },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let append = (-40_i64..4, proptest::collection::vec(any::<u8>(), 0..60))
        .prop_map(|(shift, bytes)| Operation::Append(shift, bytes));
    let operation = prop_oneof![
        12 => append,
        2 => Just(Operation::Reopen),
        1 => any::<bool>().prop_map(|right| Operation::Close { right }),
    ];
    proptest::collection::vec(operation, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_log_is_what_a_vector_would_be(operations in operations()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let mut logs = FsLogs::open(folder.path()).expect("storage");
            let mut model = Vec::<u8>::new();
            let mut closed = false;
            for operation in operations {
                match operation {
                    Operation::Append(shift, bytes) => {
                        let offset = (model.len() as i64 + shift).max(0) as usize;
                        // The truth is what the model holds; a sender repeats it exactly.
                        let bytes: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| {
                            model.get(offset + i).copied().unwrap_or(*byte)
                        }).collect();
                        let outcome = logs.append(&key(0), offset as u64, bytes.clone().into()).await;
                        let fresh = (offset + bytes.len()).saturating_sub(model.len());
                        if offset > model.len() {
                            let end = model.len() as u64;
                            let named = match outcome {
                                Err(LogError::Gap { end, .. }) => Some(end),
                                _ => None,
                            };
                            prop_assert_eq!(named, Some(end));
                        } else if closed && fresh > 0 {
                            let refused = matches!(outcome, Err(LogError::Closed(_)));
                            prop_assert!(refused);
                        } else {
                            model.extend(&bytes[bytes.len() - fresh.min(bytes.len())..]);
                            prop_assert_eq!(outcome.expect("append"), model.len() as u64);
                        }
                    }
                    Operation::Reopen => logs = FsLogs::open(folder.path()).expect("storage"),
                    Operation::Close { right } => {
                        let digest = if right { digest(&model) } else { [7; 32] };
                        let outcome = logs.close(&key(0), model.len() as u64, digest).await;
                        prop_assert_eq!(outcome.is_ok(), right);
                        closed |= right;
                    }
                }
                let status = logs.status(&key(0)).await.expect("status");
                prop_assert_eq!(status, LogStatus { end: model.len() as u64, closed });
                let stored = logs.read(&key(0), 0, usize::MAX).await.expect("read");
                prop_assert_eq!(&stored[..], &model[..]);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn many_writers_do_not_disturb_each_other() {
    let (_folder, logs) = storage();
    let tasks = (0..32_u32).map(|step| {
        let logs = logs.clone();
        tokio::spawn(async move {
            let mut end = 0;
            for i in 0..20 {
                let line = Bytes::from(format!("{step} {i}\n"));
                end = logs.append(&key(step), end, line).await.expect("append");
            }
        })
    });
    for task in tasks {
        task.await.expect("a writer");
    }
    for step in 0..32 {
        let expected: String = (0..20).map(|i| format!("{step} {i}\n")).collect();
        assert_eq!(
            logs.read(&key(step), 0, 9999).await.expect("read"),
            expected.as_bytes()
        );
    }
}

#[tokio::test]
async fn a_follower_gets_what_comes_and_ends_at_the_close() {
    let (_folder, logs) = storage();
    let (_ended, never) = watch::channel(false);
    let mut stream = Box::pin(follow(logs.clone(), key(0), 2, never));
    logs.append(&key(0), 0, Bytes::from_static(b"abcd"))
        .await
        .expect("append");
    assert_eq!(stream.next().await.expect("an item").expect("bytes"), "cd");
    let writer = tokio::spawn({
        let logs = logs.clone();
        async move {
            logs.append(&key(0), 4, Bytes::from_static(b"ef"))
                .await
                .expect("append");
            logs.close(&key(0), 6, digest(b"abcdef"))
                .await
                .expect("close");
        }
    });
    let rest: Vec<Bytes> = stream.try_collect().await.expect("bytes");
    writer.await.expect("the writer");
    assert_eq!(rest.concat(), b"ef");
}

#[tokio::test]
async fn a_follower_ends_when_the_writer_is_known_to_have_ended() {
    let (_folder, logs) = storage();
    let (ended, receiver) = watch::channel(false);
    logs.append(&key(0), 0, Bytes::from_static(b"cut"))
        .await
        .expect("append");
    let stream = follow(logs, key(0), 0, receiver);
    let reader = tokio::spawn(stream.try_collect::<Vec<Bytes>>());
    ended.send(true).expect("a follower");
    assert_eq!(
        reader.await.expect("the reader").expect("bytes").concat(),
        b"cut"
    );
}

#[tokio::test]
async fn a_run_is_listed_and_deleted() {
    let (folder, logs) = storage();
    logs.append(&key(0), 0, Bytes::from_static(b"x"))
        .await
        .expect("append");
    assert_eq!(
        logs.runs().await.expect("runs"),
        [("grove".to_owned(), "0f-1".to_owned())]
    );
    logs.delete_run("grove", "0f-1").await.expect("delete");
    logs.delete_run("grove", "0f-1")
        .await
        .expect("delete again");
    assert_eq!(logs.runs().await.expect("runs"), []);
    assert!(!folder.path().join("logs/grove/0f-1").exists());
    assert_eq!(logs.durable_end(&key(0)).await.expect("end"), 0);
    assert!(logs.delete_run("grove", "..").await.is_err());
}

#[tokio::test]
async fn asking_for_a_log_leaves_no_file() {
    let (folder, logs) = storage();
    assert_eq!(
        logs.status(&key(3)).await.expect("status"),
        LogStatus::default()
    );
    assert!(!folder.path().join("logs/grove").exists());
}
