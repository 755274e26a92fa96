//! Tests of the spool against a plain vector of bytes.
//! Must not know steps or the hub.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn spool(limit: u64) -> (tempfile::TempDir, Arc<Spool>) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path().to_owned(), limit);
    (dir, spool)
}

fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from..from + length)
        .map(|at| (at * 31 % 251) as u8)
        .collect()
}

fn all(reader: &LogReader, mut offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let piece = reader.read(offset, 100_000).unwrap();
        if piece.is_empty() {
            return bytes;
        }
        offset += piece.len() as u64;
        bytes.extend_from_slice(&piece);
    }
}

async fn has_room(writer: &mut LogWriter) -> bool {
    tokio::time::timeout(Duration::from_millis(20), writer.room())
        .await
        .is_ok()
}

#[tokio::test]
async fn a_log_can_be_read_again_until_it_is_acknowledged() {
    let (_dir, spool) = spool(1 << 30);
    let (mut writer, reader) = spool.log();
    let bytes = pattern(0, 10 << 20);
    for piece in bytes.chunks(70_001) {
        writer.append(piece);
    }
    assert!(all(&reader, 0) == bytes);
    reader.release(5_000_000);
    assert!(all(&reader, 5_000_000) == bytes[5_000_000..]);
    assert!(matches!(
        reader.read(4_999_999, 1),
        Err(ReadError::Released { .. })
    ));
    let end = writer.close();
    assert_eq!(end, bytes.len() as u64);
    let closed = *blake3::hash(&bytes).as_bytes();
    assert_eq!(
        reader.written(),
        Written {
            end,
            closed: Some(closed)
        }
    );
}

#[tokio::test]
async fn writers_wait_at_the_bound_of_the_whole_job_until_bytes_are_acknowledged() {
    let (_dir, spool) = spool(1_000_000);
    let (mut first, reader) = spool.log();
    let (mut second, _other) = spool.log();
    first.append(&pattern(0, 1_000_000));
    assert!(!has_room(&mut first).await && !has_room(&mut second).await);
    reader.release(1);
    assert!(has_room(&mut first).await && has_room(&mut second).await);
}

#[tokio::test]
async fn a_log_that_nobody_sends_takes_no_room() {
    let (_dir, spool) = spool(1_000);
    let (mut writer, reader) = spool.log();
    writer.append(&pattern(0, 5_000));
    assert!(!has_room(&mut writer).await);
    drop(reader);
    assert!(has_room(&mut writer).await);
    writer.append(&pattern(0, 5_000));
    assert!(has_room(&mut writer).await);
    assert_eq!(writer.close(), 10_000);
}

#[tokio::test]
async fn no_file_is_left_in_the_directory() {
    let (dir, spool) = spool(1 << 30);
    let (mut writer, _reader) = spool.log();
    writer.append(&pattern(0, 1 << 20));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_disk_that_refuses_makes_the_writer_wait_and_loses_nothing() {
    let (dir, spool) = spool(1 << 30);
    let (mut writer, reader) = spool.log();
    std::fs::remove_dir(dir.path()).unwrap();
    let bytes = pattern(0, TAIL + 1);
    writer.append(&bytes);
    assert!(!has_room(&mut writer).await);
    assert!(all(&reader, 0) == bytes);
    std::fs::create_dir(dir.path()).unwrap();
    tokio::time::timeout(Duration::from_secs(30), writer.room())
        .await
        .unwrap();
    assert!(all(&reader, 0) == bytes);
}

#[tokio::test]
async fn a_reader_is_woken_by_bytes_and_by_the_end() {
    let (_dir, spool) = spool(1 << 30);
    let (mut writer, reader) = spool.log();
    let waiting = tokio::spawn(async move {
        let first = reader.more_than(0).await;
        let last = reader.more_than(first.end).await;
        (first, last)
    });
    writer.append(b"line\n");
    tokio::task::yield_now().await;
    writer.close();
    let (first, last) = waiting.await.unwrap();
    assert_eq!(first.end, 5);
    assert!(last.closed.is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Release(usize),
    Read(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_usize..300_000).prop_map(Step::Append),
        (0_usize..3_000_000).prop_map(Step::Release),
        (0_usize..3_000_000).prop_map(Step::Read),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_order_what_is_not_acknowledged_is_kept_exactly(steps in steps()) {
        let (_dir, spool) = spool(u64::MAX);
        let (mut writer, reader) = spool.log();
        let (mut model, mut released) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Append(length) => {
                    let bytes = pattern(model.len(), length);
                    writer.append(&bytes);
                    model.extend_from_slice(&bytes);
                }
                Step::Release(offset) => {
                    reader.release(offset as u64);
                    released = released.max(offset.min(model.len()));
                }
                Step::Read(offset) if offset < released => {
                    prop_assert!(reader.read(offset as u64, 10).is_err());
                }
                Step::Read(offset) => {
                    let rest = model.get(offset..).unwrap_or_default();
                    prop_assert!(all(&reader, offset as u64) == rest);
                }
            }
        }
        prop_assert!(all(&reader, released as u64) == model[released..]);
    }
}
