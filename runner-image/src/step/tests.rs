//! Tests of steps with real processes.
//! Must not leave processes behind, nor rely on a fixed time having passed.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::log::StepLog;
use crate::mask::Secrets;
use crate::process::Ownership;
use crate::spool::{LogReader, Spool};
use crate::stop::StopReason;

const LONG: Duration = Duration::from_secs(60);

struct Bench {
    dir: tempfile::TempDir,
    spool: Arc<Spool>,
    processes: Processes,
    stop: watch::Sender<Option<StopRequest>>,
    limits: StepLimits,
    steps: u32,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            spool: Spool::new(dir.path().to_owned(), 64 << 20),
            processes: Processes::new(Ownership::Shared).unwrap(),
            stop: watch::Sender::new(None),
            limits: StepLimits {
                deadline: None,
                grace: LONG,
                drain: LONG,
            },
            steps: 0,
            dir,
        }
    }

    fn command(&mut self, script: &str) -> StepCommand {
        self.steps += 1;
        StepCommand {
            index: self.steps,
            shell: vec!["/bin/sh".to_owned(), "-e".to_owned()],
            script: script.to_owned(),
            dir: self.dir.path().join(format!("step-{}", self.steps)),
            workdir: self.dir.path().to_owned(),
            env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        }
    }

    async fn run(&mut self, script: &str) -> (Result<StepEnd, StepError>, Vec<u8>) {
        let command = self.command(script);
        self.run_command(&command).await
    }

    async fn run_command(
        &mut self,
        command: &StepCommand,
    ) -> (Result<StepEnd, StepError>, Vec<u8>) {
        let (mut log, reader) = StepLog::new(&Secrets::default(), &self.spool);
        let mut stop = self.stop.subscribe();
        let end = run(command, &self.processes, &mut log, self.limits, &mut stop).await;
        log.close();
        (end, content(&reader))
    }

    fn in_(&mut self, time: Duration) {
        self.limits.deadline = Some(Instant::now() + time);
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

fn content(reader: &LogReader) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let piece = reader.read(all.len() as u64, 1 << 20).unwrap();
        if piece.is_empty() {
            return all;
        }
        all.extend_from_slice(&piece);
    }
}

fn code(end: Result<StepEnd, StepError>) -> Option<i32> {
    match end.unwrap() {
        StepEnd::Ended(status) => status.code(),
        other => panic!("the step did not end by itself: {other:?}"),
    }
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !pid.trim().is_empty() && !stat.is_empty() && !stat.contains(") Z ")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn both_outputs_are_one_stream_in_order() {
    let script = "for i in 1 2 3; do echo out$i; echo err$i >&2; done; printf 'no end'";
    let (end, log) = Bench::new().run(script).await;
    assert_eq!(code(end), Some(0));
    assert_eq!(log, b"out1\nerr1\nout2\nerr2\nout3\nerr3\nno end");
}

#[tokio::test]
async fn exit_codes_and_signals_are_exact() {
    let mut bench = Bench::new();
    for expected in [0, 1, 77, 255] {
        let (end, _) = bench.run(&format!("exit {expected}")).await;
        assert_eq!(code(end), Some(expected));
    }
    let (end, _) = bench.run("kill -SEGV $$").await;
    let StepEnd::Ended(status) = end.unwrap() else {
        panic!("not ended")
    };
    assert_eq!((status.code(), status.signal()), (None, Some(11)));
    assert_eq!(signal_name(status).as_deref(), Some("SIGSEGV"));
    let (end, _) = bench.run("false\necho not reached").await;
    assert_eq!(code(end), Some(1));
}

#[tokio::test]
async fn the_script_reaches_the_shell_byte_for_byte() {
    let script = "cat \"$0\"; exit 0\n ${{ not.pasted }} $(id) `id` \"quotes' \\ é";
    let (end, log) = Bench::new().run(script).await;
    assert_eq!(code(end), Some(0));
    assert_eq!(log, script.as_bytes());
}

#[tokio::test]
async fn the_script_is_private_and_the_environment_is_only_what_was_given() {
    let mut bench = Bench::new();
    let (_, log) = bench
        .run("stat -c %a \"$0\"; env | cut -d= -f1 | sort")
        .await;
    let text = String::from_utf8(log).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter(|name| !matches!(*name, "_" | "SHLVL"))
        .collect();
    assert_eq!(names, ["600", "PATH", "PWD", crate::process::MARK]);
}

#[tokio::test]
async fn output_that_is_not_text_is_kept() {
    let (end, log) = Bench::new().run("printf '\\377\\000\\200x'").await;
    assert_eq!(code(end), Some(0));
    assert_eq!(log, b"\xff\x00\x80x");
}

#[tokio::test]
async fn standard_input_is_empty() {
    let (end, log) = Bench::new().run("cat; echo done").await;
    assert_eq!(code(end), Some(0));
    assert_eq!(log, b"done\n");
}

#[tokio::test]
async fn large_output_is_complete() {
    let mut bench = Bench::new();
    let (end, log) = bench.run("head -c 50000000 /dev/zero").await;
    assert_eq!(code(end), Some(0));
    assert_eq!(log.len(), 50_000_000);
}

#[tokio::test]
async fn a_missing_shell_or_workdir_is_told_in_words() {
    let mut bench = Bench::new();
    let mut command = bench.command("true");
    command.shell = vec!["/no/such/shell".to_owned()];
    let (end, _) = bench.run_command(&command).await;
    let message = end.unwrap_err().to_string();
    assert!(
        message.contains("`/no/such/shell`: there is no such program"),
        "{message}"
    );
    let mut command = bench.command("true");
    command.workdir = Path::new("/no/such/dir").to_owned();
    let (end, _) = bench.run_command(&command).await;
    let message = end.unwrap_err().to_string();
    assert_eq!(
        message,
        "the working directory `/no/such/dir` does not exist"
    );
    let mut command = bench.command("true");
    command.shell.clear();
    assert!(matches!(
        bench.run_command(&command).await.0,
        Err(StepError::NoShell)
    ));
}

#[tokio::test]
async fn a_step_over_its_time_gets_term_and_may_clean_up() {
    let mut bench = Bench::new();
    bench.in_(Duration::from_millis(300));
    let script = "trap 'echo cleaned; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let (end, log) = bench.run(script).await;
    let StepEnd::OverTime(Some(status)) = end.unwrap() else {
        panic!("not over time")
    };
    assert_eq!(status.code(), Some(5));
    // Some shells say "Terminated" of the `sleep` in between.
    assert!(log.starts_with(b"ready\n") && log.ends_with(b"cleaned\n"));
}

#[tokio::test]
async fn a_group_that_ignores_term_is_killed_after_the_grace() {
    let mut bench = Bench::new();
    bench.in_(Duration::from_millis(200));
    bench.limits.grace = Duration::from_millis(100);
    let script = "trap '' TERM; (sleep 600; :) & echo $! > child; echo $$ > shell; wait";
    let (end, _) = bench.run(script).await;
    let StepEnd::OverTime(Some(status)) = end.unwrap() else {
        panic!("not over time")
    };
    assert_eq!(status.signal(), Some(9));
    assert!(!alive(&bench.file("child")) && !alive(&bench.file("shell")));
}

#[tokio::test]
async fn the_rest_of_a_group_has_its_grace_after_the_shell_has_ended() {
    let mut bench = Bench::new();
    bench.in_(Duration::from_millis(300));
    let child = "trap 'sleep 0.2; echo saved > saved; exit' TERM; echo > ready; \
                 while :; do sleep 0.01; done";
    let script = format!(
        "sh -c '{}' >/dev/null 2>&1 & wait",
        child.replace('\'', "'\\''")
    );
    let (end, _) = bench.run(&script).await;
    assert!(matches!(end.unwrap(), StepEnd::OverTime(_)));
    assert_eq!(bench.file("saved"), "saved\n");
}

#[tokio::test]
async fn a_request_to_stop_ends_a_step() {
    let mut bench = Bench::new();
    let stop = bench.stop.clone();
    let ready = bench.dir.path().join("ready");
    let asking = tokio::spawn(async move {
        until("the step runs", || ready.exists()).await;
        stop.send_replace(Some(StopRequest {
            reason: StopReason::Cancelled,
            grace: LONG,
        }));
    });
    let (end, _) = bench.run("echo > ready; sleep 600").await;
    asking.await.unwrap();
    let StepEnd::Stopped(Some(status)) = end.unwrap() else {
        panic!("not stopped")
    };
    assert_eq!(status.signal(), Some(15));
}

#[tokio::test]
async fn a_stopped_process_acts_on_the_request_too() {
    let mut bench = Bench::new();
    bench.in_(Duration::from_millis(200));
    let (end, _) = bench.run("kill -STOP $$; echo woken").await;
    assert!(matches!(end.unwrap(), StepEnd::OverTime(Some(status)) if status.signal() == Some(15)));
}

#[tokio::test]
async fn a_background_process_that_keeps_the_output_open_does_not_hang_the_step() {
    let mut bench = Bench::new();
    bench.limits.drain = Duration::from_millis(200);
    let (end, log) = bench
        .run("sleep 600 & echo $! > child; echo said; exit 3")
        .await;
    assert_eq!(code(end), Some(3));
    assert_eq!(log, b"said\n");
    assert!(!alive(&bench.file("child")));
}

#[tokio::test]
async fn a_background_process_in_its_own_session_that_keeps_the_output_open_is_killed() {
    let mut bench = Bench::new();
    bench.limits.drain = Duration::from_millis(200);
    let script = "setsid sh -c 'echo $$ > child; exec sleep 600' &\n\
                  while ! test -s child; do sleep 0.01; done";
    let (end, _) = bench.run(script).await;
    assert_eq!(code(end), Some(0));
    assert!(!alive(&bench.file("child")));
}

#[tokio::test]
async fn what_a_background_process_says_before_it_ends_is_in_the_log() {
    let (end, log) = Bench::new()
        .run("(sleep 0.2; echo late) & echo early")
        .await;
    assert_eq!(code(end), Some(0));
    assert_eq!(log, b"early\nlate\n");
}

#[tokio::test]
async fn a_quiet_background_process_lives_until_the_jobs_end() {
    let mut bench = Bench::new();
    let (end, _) = bench
        .run("sleep 600 >/dev/null 2>&1 & echo $! > child")
        .await;
    assert_eq!(code(end), Some(0));
    assert!(alive(&bench.file("child")));
    bench.processes.kill_job().await;
    assert!(!alive(&bench.file("child")));
}

#[tokio::test]
async fn daemons_in_a_group_or_session_of_their_own_are_killed_at_the_jobs_end() {
    let mut bench = Bench::new();
    let daemon = "setsid sh -c 'echo $$ > daemon; exec sleep 600' >/dev/null 2>&1 &\n\
                  env -i sleep 600 >/dev/null 2>&1 & echo $! > bare\n\
                  while ! test -s daemon; do sleep 0.01; done";
    let (end, _) = bench.run(daemon).await;
    assert_eq!(code(end), Some(0));
    assert!(alive(&bench.file("daemon")) && alive(&bench.file("bare")));
    bench.processes.kill_job().await;
    assert!(!alive(&bench.file("daemon")) && !alive(&bench.file("bare")));
}

#[tokio::test]
async fn dropping_a_running_step_and_its_processes_leaves_nothing() {
    let mut bench = Bench::new();
    let script = "echo $$ > shell; sleep 600 & echo $! > child\n\
                  setsid sh -c 'echo $$ > daemon; exec sleep 600' & wait";
    let names = ["shell", "child", "daemon"].map(|name| bench.dir.path().join(name));
    let pids = || {
        names
            .clone()
            .map(|name| std::fs::read_to_string(name).unwrap_or_default())
    };
    tokio::select! {
        _ = bench.run(script) => panic!("the step ended"),
        () = until("all run", || pids().iter().all(|pid| alive(pid))) => {}
    }
    let pids = pids();
    drop(bench);
    assert!(!pids.iter().any(|pid| alive(pid)), "{pids:?}");
}

#[tokio::test]
async fn a_full_spool_blocks_the_process_and_time_limits_still_work() {
    let mut bench = Bench::new();
    bench.spool = Spool::new(bench.dir.path().to_owned(), 1 << 20);
    bench.limits.grace = Duration::from_millis(100);
    bench.in_(Duration::from_millis(500));
    let (end, log) = bench.run("trap '' TERM; exec yes").await;
    assert!(matches!(end.unwrap(), StepEnd::OverTime(Some(status)) if status.signal() == Some(9)));
    assert!(
        log.len() >= 1 << 20,
        "{} bytes are less than the bound",
        log.len()
    );
    assert!(
        log.len() < 3 << 20,
        "{} bytes are far beyond the bound",
        log.len()
    );
}
