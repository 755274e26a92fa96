//! Steps in another container: the same behaviour as here, over a real socket.
//! Must not need a container: the annex is a task of the test.

use std::ffi::OsString;

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::environment::Environment;
use crate::mask::Secrets;
use crate::process::Ownership;
use crate::spool::{LogReader, Spool};
use crate::step::StepCommand;
use crate::stop::StopReason;

const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    dir: TempDir,
    annexes: Annexes,
    server: JoinHandle<Result<(), AnnexError>>,
    stop: watch::Sender<Option<StopRequest>>,
    limits: StepLimits,
    spool_bytes: u64,
    steps: u32,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let carrier = dir.path().join("token.sock");
        let path = socket(&carrier, 1);
        let variables: [(OsString, OsString); 2] = [
            ("PATH".into(), std::env::var_os("PATH").unwrap()),
            ("OF_IMAGE".into(), "annex".into()),
        ];
        let server = tokio::spawn(async move {
            serve(&path, &Environment::new(variables), Ownership::Shared).await
        });
        let annexes = Annexes::connect(&carrier, 1, PATIENCE).await.unwrap();
        let limits = StepLimits {
            deadline: None,
            grace: PATIENCE,
            drain: PATIENCE,
        };
        Self {
            dir,
            annexes,
            server,
            stop: watch::Sender::new(None),
            limits,
            spool_bytes: 64 << 20,
            steps: 0,
        }
    }

    async fn run(&mut self, script: &str, env: &[(&str, Option<&str>)]) -> (AnnexEnd, String) {
        self.steps += 1;
        let command = AnnexCommand {
            step: StepCommand {
                index: self.steps,
                shell: vec!["/bin/sh".to_owned(), "-e".to_owned()],
                script: script.to_owned(),
                dir: self.dir.path().join(format!("step-{}", self.steps)),
                workdir: self.dir.path().to_owned(),
                env: Vec::new(),
            },
            env: (env.iter())
                .map(|(name, value)| (name.into(), value.map(Into::into)))
                .collect(),
            home: self.dir.path().to_owned(),
        };
        let secrets = Secrets::new([&b"s3cr3t-value"[..]]);
        let spool = Spool::new(self.dir.path().join("spool"), self.spool_bytes);
        std::fs::create_dir_all(self.dir.path().join("spool")).unwrap();
        let (mut log, reader) = StepLog::new(&secrets, &spool);
        let mut stop = self.stop.subscribe();
        let (annexes, limits) = (&mut self.annexes, self.limits);
        let end = annexes.run(1, &command, &mut log, limits, &mut stop).await;
        log.close();
        (end, text(&reader))
    }
}

impl Bench {
    /// Whether the process whose number is in the file `child` is no more, or waits to be reaped.
    fn child_is_gone(&self) -> bool {
        let child = std::fs::read_to_string(self.dir.path().join("child")).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    }
}

fn text(log: &LogReader) -> String {
    let mut whole = Vec::new();
    loop {
        let piece = log.read(whole.len() as u64, 64 << 20).unwrap();
        if piece.is_empty() {
            return String::from_utf8_lossy(&whole).into_owned();
        }
        whole.extend_from_slice(&piece);
    }
}

fn code(end: &AnnexEnd) -> Option<i32> {
    match &end.end {
        Ok(StepEnd::Ended(status)) => status.code(),
        other => panic!("it did not end by itself: {other:?}"),
    }
}

#[tokio::test]
async fn steps_run_one_after_the_other_with_the_images_environment_under_their_own() {
    let mut bench = Bench::new().await;
    let env = [("OWN", Some("step")), ("TOKEN", Some("s3cr3t-value"))];
    let (end, log) = bench.run("echo $OF_IMAGE $OWN $TOKEN; exit 3", &env).await;
    assert_eq!((code(&end), log.as_str()), (Some(3), "annex step ***\n"));
    assert!(!end.starved && !end.lost);
    let unset = [("OF_IMAGE", None)];
    let (end, log) = bench
        .run("echo ${OF_IMAGE-unset} ${OWN-unset}", &unset)
        .await;
    assert_eq!((code(&end), log.as_str()), (Some(0), "unset unset\n"));
}

#[tokio::test]
async fn every_byte_of_a_large_output_arrives_before_the_end() {
    let mut bench = Bench::new().await;
    let (end, log) = bench.run("seq 200000; echo last", &[]).await;
    assert_eq!(code(&end), Some(0));
    assert_eq!(log.lines().count(), 200_001);
    assert!(log.ends_with("200000\nlast\n"));
}

#[tokio::test]
async fn a_step_is_stopped_and_its_last_words_are_heard() {
    let mut bench = Bench::new().await;
    bench.stop.send_replace(Some(StopRequest {
        reason: StopReason::Cancelled,
        grace: PATIENCE,
    }));
    let script = "trap 'echo bye; exit 9' TERM; while :; do sleep 0.01; done";
    let (end, log) = bench.run(script, &[]).await;
    assert!(matches!(end.end, Ok(StepEnd::Stopped(_))), "{:?}", end.end);
    // The shell may tell first that what it waited for was ended too.
    assert!(log.is_empty() || log.ends_with("bye\n"), "{log}");
}

#[tokio::test]
async fn a_step_over_its_time_is_killed_with_all_its_processes() {
    let mut bench = Bench::new().await;
    bench.limits.deadline = Some(Instant::now() + Duration::from_millis(300));
    bench.limits.grace = Duration::from_millis(50);
    let script = "trap '' TERM; sleep 1000 & echo $! > child; wait; wait; sleep 1000";
    let (end, _) = bench.run(script, &[]).await;
    assert!(matches!(end.end, Ok(StepEnd::OverTime(_))), "{:?}", end.end);
    assert!(bench.child_is_gone());
}

#[tokio::test]
async fn a_shell_that_is_not_there_is_told_in_the_same_words() {
    let mut bench = Bench::new().await;
    let (end, _) = bench.run("cd /nowhere", &[]).await;
    assert_ne!(code(&end), Some(0));
    bench.steps = 0;
    let (end, _) = bench.run("a step's directory is there already", &[]).await;
    let Err(error) = end.end else {
        panic!("it ran")
    };
    assert!(
        error.to_string().starts_with("cannot prepare the step"),
        "{error}"
    );
    assert!(!end.lost, "the container is still there");
}

#[tokio::test]
async fn when_the_agent_is_done_no_process_is_left_and_the_annex_ends() {
    let mut bench = Bench::new().await;
    let script = "setsid sleep 1000 > /dev/null 2>&1 & echo $! > child";
    let (end, _) = bench.run(script, &[]).await;
    assert_eq!(code(&end), Some(0));
    assert!(!bench.child_is_gone());
    std::mem::take(&mut bench.annexes).end().await;
    assert!(bench.child_is_gone());
    bench.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_annex_that_goes_while_a_step_runs_is_lost_for_this_step_and_the_next() {
    let mut bench = Bench::new().await;
    let server = std::mem::replace(&mut bench.server, tokio::spawn(async { Ok(()) }));
    let file = bench.dir.path().join("started");
    tokio::spawn(async move {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.abort();
    });
    let (end, _) = bench.run("touch started; sleep 1000", &[]).await;
    assert!(end.lost && matches!(end.end, Err(StepError::Lost)));
    let (end, _) = bench.run("echo never", &[]).await;
    assert!(end.lost);
}

#[tokio::test]
async fn only_the_first_peer_is_served() {
    let mut bench = Bench::new().await;
    let (end, _) = bench.run("true", &[]).await;
    assert_eq!(code(&end), Some(0));
    let path = socket(&bench.dir.path().join("token.sock"), 1);
    assert!(!path.exists());
    assert!(UnixStream::connect(&path).await.is_err());
}
