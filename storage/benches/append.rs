//! How many lines of 128 bytes become durable in a second.
//! Must not be read as a figure of the disk alone: group commit decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage::{FsLogs, LogKey, Logs};

const LINE: usize = 128;
/// Lines of one append, as an agent batches them.
const BATCH: usize = 1024;

fn key(step: u32) -> LogKey {
    LogKey {
        namespace: "bench".into(),
        run_uid: "run".into(),
        job: "job".into(),
        attempt: 1,
        step,
    }
}

/// Time for this many batches in each of so many logs at once, each awaited until durable.
async fn append(logs: Arc<FsLogs>, first: u32, writers: u32, batches: u64) -> Duration {
    let batch = Bytes::from(vec![b'x'; LINE * BATCH]);
    let start = Instant::now();
    let writers: Vec<_> = (first..first + writers)
        .map(|step| {
            let (logs, batch) = (logs.clone(), batch.clone());
            tokio::spawn(async move {
                let mut end = 0;
                for _ in 0..batches {
                    end = logs
                        .append(&key(step), end, batch.clone())
                        .await
                        .expect("appended");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    start.elapsed()
}

fn lines(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    let mut group = criterion.benchmark_group("durable_lines");
    group.sample_size(10);
    for writers in [1, 8, 32] {
        let dir = tempfile::tempdir().expect("a folder");
        let logs = Arc::new(FsLogs::open(dir.path().to_owned()).expect("a store"));
        let mut next = 0;
        group.throughput(Throughput::Elements(u64::from(writers) * BATCH as u64));
        group.bench_function(format!("{writers}_logs"), |bencher| {
            bencher.iter_custom(|batches| {
                next += writers;
                runtime.block_on(append(logs.clone(), next, writers, batches))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lines);
criterion_main!(benches);
