//! The store against a model, against crashes, and under many writers.
//! Must not wait for a fixed time.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::follow;

const SOON: Duration = Duration::from_secs(30);

fn key(job: &str, step: u32) -> LogKey {
    LogKey {
        namespace: "grove".into(),
        run_uid: "uid-7".into(),
        job: job.into(),
        attempt: 3,
        step,
    }
}

/// The bytes that belong at these offsets: every sender of a log sends the same.
fn text(from: u64, length: usize) -> Bytes {
    (from..from + length as u64)
        .map(|at| (at.wrapping_mul(0x9E37_79B9) >> 7) as u8)
        .collect()
}

fn store() -> (tempfile::TempDir, FsLogs) {
    let dir = tempfile::tempdir().expect("a folder");
    let logs = FsLogs::open(dir.path().to_owned()).expect("a store");
    (dir, logs)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future)
        .await
        .expect("done in time")
}

#[derive(Clone, Debug)]
enum Op {
    /// Append so many bytes, beginning so far from the end.
    Append { from_end: i64, length: usize },
    /// Forget everything in memory.
    Reopen,
    /// Crash with the last bytes half written.
    Crash { lost: u64 },
    /// Try to close with a length that is off by so much.
    WrongClose { off: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (-3000i64..300, 0usize..6000)
            .prop_map(|(from_end, length)| Op::Append { from_end: from_end.min(200), length }),
        4 => (0usize..6000).prop_map(|length| Op::Append { from_end: 0, length }),
        1 => Just(Op::Reopen),
        1 => (0u64..500).prop_map(|lost| Op::Crash { lost }),
        1 => (1u64..9).prop_map(|off| Op::WrongClose { off }),
    ]
}

async fn apply(logs: &mut FsLogs, root: &Path, key: &LogKey, model: &mut Vec<u8>, op: Op) {
    let end = model.len() as u64;
    match op {
        Op::Append { from_end, length } => {
            let offset = end.saturating_add_signed(from_end);
            let result = logs.append(key, offset, text(offset, length)).await;
            if offset > end {
                assert!(matches!(result, Err(LogError::Gap { end: told }) if told == end));
                return;
            }
            let target = end.max(offset + length as u64);
            assert_eq!(result.expect("appended"), target);
            model.extend_from_slice(&text(end, (target - end) as usize));
        }
        Op::Reopen => *logs = FsLogs::open(root.to_owned()).expect("reopened"),
        Op::Crash { lost } => {
            let left = end.saturating_sub(lost);
            file::truncate(&logs.inner.log_path(key), left).expect("cut");
            model.truncate(left as usize);
            *logs = FsLogs::open(root.to_owned()).expect("reopened");
        }
        Op::WrongClose { off } => {
            let digest = *blake3::hash(model).as_bytes();
            let result = logs.close(key, end + off, digest).await;
            assert!(matches!(result, Err(LogError::Mismatch { .. })));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_log_is_its_model_after_any_cuts_overlaps_gaps_and_crashes(
        ops in proptest::collection::vec(op(), 1..14),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()
            .expect("a runtime");
        runtime.block_on(async {
            let (dir, mut logs) = store();
            let (key, mut model) = (key("oak", 0), Vec::new());
            for op in ops {
                apply(&mut logs, dir.path(), &key, &mut model, op).await;
                let status = logs.status(&key).await.expect("a status");
                assert_eq!(status, LogStatus { end: model.len() as u64, closed: false });
                let stored = logs.read(&key, 0, usize::MAX >> 1).await.expect("read");
                assert_eq!(stored, model);
            }
            let digest = *blake3::hash(&model).as_bytes();
            logs.close(&key, model.len() as u64, digest).await.expect("closed");
            let reopened = FsLogs::open(dir.path().to_owned()).expect("reopened");
            let status = reopened.status(&key).await.expect("a status");
            assert_eq!(status, LogStatus { end: model.len() as u64, closed: true });
        });
    }
}

#[tokio::test]
async fn a_closed_log_takes_repeats_and_nothing_else() {
    let (_dir, logs) = store();
    let key = key("oak", 1);
    let digest = *blake3::hash(&text(0, 100)).as_bytes();
    logs.append(&key, 0, text(0, 100)).await.expect("appended");
    let wrong = logs.close(&key, 100, [7; 32]).await;
    assert!(matches!(wrong, Err(LogError::Mismatch { end: 100 })));
    logs.close(&key, 100, digest).await.expect("closed");
    logs.close(&key, 100, digest).await.expect("closed again");
    assert_eq!(
        logs.append(&key, 40, text(40, 60)).await.expect("a repeat"),
        100
    );
    let more = logs.append(&key, 40, text(40, 61)).await;
    assert!(matches!(more, Err(LogError::Closed { end: 100 })));
    assert!(matches!(
        logs.close(&key, 100, [7; 32]).await,
        Err(LogError::Closed { .. })
    ));
}

#[tokio::test]
async fn a_log_that_was_changed_on_disk_is_not_closed() {
    let (dir, logs) = store();
    let key = key("oak", 1);
    logs.append(&key, 0, text(0, 100)).await.expect("appended");
    let path = logs.inner.log_path(&key);
    file::write_at(&path, 50, &[Bytes::from_static(b"worm")]).expect("damaged");
    let reopened = FsLogs::open(dir.path().to_owned()).expect("reopened");
    let digest = *blake3::hash(&text(0, 100)).as_bytes();
    let closed = reopened.close(&key, 100, digest).await;
    assert!(matches!(closed, Err(LogError::Mismatch { end: 100 })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_of_one_log_and_many_logs_at_once_lose_and_double_nothing() {
    let (_dir, logs) = store();
    let logs = Arc::new(logs);
    let writers = (0..24u32).map(|writer| {
        let logs = logs.clone();
        // Two writers for each log, in pieces of other sizes.
        let (key, piece) = (key("elm", writer / 2), 700 + 400 * (writer as usize % 2));
        tokio::spawn(async move {
            let mut offset = 0;
            while offset < 20_000 {
                offset = match logs.append(&key, offset, text(offset, piece)).await {
                    Ok(end) => end,
                    Err(LogError::Gap { end }) => end,
                    Err(error) => panic!("{error}"),
                };
            }
        })
    });
    for writer in soon(join_all(writers)).await {
        writer.expect("no panic");
    }
    for step in 0..12 {
        let status = logs.status(&key("elm", step)).await.expect("a status");
        let stored = logs
            .read(&key("elm", step), 0, 1 << 20)
            .await
            .expect("read");
        assert_eq!(stored, text(0, status.end as usize));
    }
}

#[tokio::test]
async fn appends_that_come_together_are_committed_together() {
    let (_dir, logs) = store();
    let key = key("elm", 0);
    logs.status(&key).await.expect("loaded");
    let appends = (0..20u64).map(|n| logs.append(&key, n * 10, text(n * 10, 10)));
    for end in join_all(appends).await {
        assert_eq!(end.expect("appended"), 200);
    }
    let commits = *logs.entry(&key).expect("an entry").commits.borrow();
    assert_eq!(commits, 1);
}

#[tokio::test]
async fn a_log_on_a_stuck_disk_does_not_hold_up_another_one() {
    let (_dir, logs) = store();
    let logs = Arc::new(logs);
    let stuck = key("ivy", 0);
    let path = logs.inner.log_path(&stuck);
    file::create_dirs(path.parent().expect("a folder")).expect("created");
    // Opening a pipe for writing blocks until somebody reads from it.
    let made = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
    let blocked = tokio::spawn({
        let (logs, stuck) = (logs.clone(), stuck.clone());
        async move { logs.append(&stuck, 0, text(0, 10)).await }
    });
    for step in 1..5 {
        let end = soon(logs.append(&key("ivy", step), 0, text(0, 10))).await;
        assert_eq!(end.expect("appended"), 10);
    }
    assert!(!blocked.is_finished());
    let reader = std::thread::spawn(move || std::fs::File::open(path).map(drop));
    let result = soon(blocked).await.expect("no panic");
    assert!(
        matches!(result, Err(LogError::Disk { .. })),
        "a pipe is no log: {result:?}"
    );
    reader.join().expect("no panic").expect("opened");
}

#[tokio::test]
async fn after_a_failed_write_the_log_goes_on_from_its_durable_end() {
    let (_dir, logs) = store();
    let key = key("fir", 0);
    assert_eq!(logs.durable_end(&key).await.expect("an end"), 0);
    let dir = logs.inner.attempt_dir(&key);
    file::create_dirs(dir.parent().expect("a folder")).expect("created");
    std::fs::write(&dir, "in the way").expect("written");
    let failed = logs.append(&key, 0, text(0, 50)).await;
    assert!(matches!(failed, Err(LogError::Disk { .. })));
    assert!(matches!(
        logs.append(&key, 50, text(50, 9)).await,
        Err(LogError::Gap { end: 0 })
    ));
    std::fs::remove_file(&dir).expect("removed");
    assert_eq!(
        logs.append(&key, 0, text(0, 60)).await.expect("appended"),
        60
    );
    let digest = *blake3::hash(&text(0, 60)).as_bytes();
    logs.close(&key, 60, digest).await.expect("closed");
}

#[tokio::test]
async fn a_follower_sees_every_byte_once_and_ends_with_the_log() {
    let (_dir, logs) = store();
    let logs: Arc<dyn Logs> = Arc::new(logs);
    let key = key("oak", 2);
    let follower = follow(logs.clone(), key.clone(), 5, std::future::pending());
    let reader = tokio::spawn(async move {
        let pieces: Vec<_> = follower
            .map(|piece| piece.expect("a piece"))
            .collect()
            .await;
        pieces.concat()
    });
    for n in 0..5u64 {
        logs.append(&key, n * 1000, text(n * 1000, 1000))
            .await
            .expect("appended");
    }
    let digest = *blake3::hash(&text(0, 5000)).as_bytes();
    logs.close(&key, 5000, digest).await.expect("closed");
    assert_eq!(soon(reader).await.expect("no panic"), text(5, 4995));
}

#[tokio::test]
async fn a_follower_of_a_log_that_nobody_closes_ends_with_the_job() {
    let (_dir, logs) = store();
    let logs: Arc<dyn Logs> = Arc::new(logs);
    let key = key("oak", 2);
    let (end_job, job_ended) = tokio::sync::oneshot::channel::<()>();
    let ended = async move { job_ended.await.expect("the job ends") };
    let mut follower = follow(logs.clone(), key.clone(), 0, ended);
    logs.append(&key, 0, text(0, 10)).await.expect("appended");
    let first = soon(follower.next())
        .await
        .expect("a piece")
        .expect("no error");
    assert_eq!(first, text(0, 10));
    logs.append(&key, 10, text(10, 10)).await.expect("appended");
    end_job.send(()).expect("awaited");
    let rest: Vec<_> = soon(follower.map(|piece| piece.expect("a piece")).collect()).await;
    assert_eq!(rest.concat(), text(10, 10));
}

#[tokio::test]
async fn deleting_a_run_ends_its_followers_and_leaves_the_others() {
    let (dir, logs) = store();
    let logs = Arc::new(logs);
    let gone = key("oak", 0);
    let stays = LogKey {
        run_uid: "uid-8".into(),
        ..gone.clone()
    };
    for key in [&gone, &stays] {
        logs.append(key, 0, text(0, 10)).await.expect("appended");
    }
    let pair = |run: &str| ("grove".to_owned(), run.to_owned());
    assert_eq!(
        logs.runs().await.expect("listed"),
        [pair("uid-7"), pair("uid-8")]
    );
    let follower = follow(logs.clone(), gone.clone(), 10, std::future::pending());
    let reader = tokio::spawn(follower.collect::<Vec<_>>());
    logs.delete_run("grove", "uid-7").await.expect("deleted");
    logs.delete_run("grove", "uid-7")
        .await
        .expect("deleted again");
    soon(reader).await.expect("no panic");
    assert_eq!(logs.runs().await.expect("listed"), [pair("uid-8")]);
    assert_eq!(logs.durable_end(&gone).await.expect("an end"), 0);
    assert_eq!(logs.durable_end(&stays).await.expect("an end"), 10);
    let left: Vec<_> = file::names(&dir.path().join("deleted")).expect("listed");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn bad_names_are_refused_by_every_method() {
    let (_dir, logs) = store();
    let bad = LogKey {
        job: "../../etc".into(),
        ..key("oak", 0)
    };
    let named = |result: Result<()>| assert!(matches!(result, Err(LogError::Name(_))));
    named(logs.append(&bad, 0, text(0, 1)).await.map(drop));
    named(logs.close(&bad, 0, [0; 32]).await);
    named(logs.status(&bad).await.map(drop));
    named(logs.read(&bad, 0, 1).await.map(drop));
    named(logs.delete_run("grove", "..").await);
    assert!(logs.watch(&bad).changed().await.is_err());
}

#[tokio::test]
async fn logs_that_nobody_uses_are_forgotten_in_memory() {
    let (_dir, logs) = store();
    let watched = logs.watch(&key("oak", 0));
    for step in 1..=MAX_ENTRIES as u32 + 10 {
        logs.entry(&key("oak", step)).expect("an entry");
    }
    let entries = logs.inner.entries.lock();
    assert!(entries.len() <= MAX_ENTRIES);
    assert!(entries.contains_key(&key("oak", 0)));
    drop(watched);
}

#[tokio::test]
async fn asking_for_a_log_leaves_no_file() {
    let (dir, logs) = store();
    assert_eq!(
        logs.status(&key("oak", 0)).await.expect("a status"),
        LogStatus::default()
    );
    assert_eq!(
        logs.read(&key("oak", 0), 0, 9).await.expect("read"),
        Bytes::new()
    );
    assert!(!dir.path().join("logs/grove").exists());
}
