//! Agents of local mode, over the memory transport.
//! Must not need anything but a shell.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::test_hub::{HubHandler, State, TestHub};
use runner::local::LocalAgent;
use runner::{AgentError, JobEnd};
use runner_messages::{
    CancelReason, EnvEntry, EnvSource, JobKey, Offer, Outcome, StepPhase, StepSpec, termination,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use valkyrie::endpoint::{CallError, Code, MemoryHub, Server};
use valkyrie::identity::{IdentityStore, SpiffeId, TrustBundle};

const LONG: Duration = Duration::from_secs(60);

fn step(name: &str, script: &str) -> StepSpec {
    StepSpec {
        name: name.to_owned(),
        script: script.to_owned(),
        ..StepSpec::default()
    }
}

fn offer(steps: Vec<StepSpec>) -> Offer {
    Offer {
        job: Some(JobKey {
            namespace: "team".to_owned(),
            run: "build-1".to_owned(),
            run_uid: "uid-1".to_owned(),
            job: "compile".to_owned(),
            attempt: 2,
            fence: 7,
        }),
        steps,
        ..Offer::default()
    }
}

fn variable(name: &str, source: EnvSource, secret: bool) -> EnvEntry {
    EnvEntry {
        name: name.to_owned(),
        source: Some(source),
        secret,
    }
}

/// A hub, its server and one agent.
struct Bench {
    dir: tempfile::TempDir,
    hub: Arc<TestHub>,
    agent: LocalAgent,
    stop: watch::Sender<bool>,
    _server: Server,
}

impl Bench {
    async fn new(offer: Offer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hub = TestHub::new(offer);
        let hub_id = SpiffeId::parse("spiffe://local/operator").unwrap();
        let id = SpiffeId::parse("spiffe://local/ns/local/agent/compile-2").unwrap();
        let memory = MemoryHub::new(hub_id.clone());
        let nobody = IdentityStore::anonymous(TrustBundle::empty(id.trust_domain().clone()));
        let handler = Arc::new(HubHandler(Arc::clone(&hub)));
        let server = Server::builder(nobody, handler)
            .memory(&memory)
            .start()
            .await
            .unwrap();
        let (workdir, state) = (dir.path().join("work"), dir.path().join("state"));
        let mut agent = LocalAgent::new(memory, id, workdir, state);
        agent.config.grace = LONG;
        agent.config.drain = LONG;
        Self {
            dir,
            hub,
            agent,
            stop: watch::Sender::new(false),
            _server: server,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the agent; what is left serves to look at what it does.
    fn start(self) -> Running {
        let task = tokio::spawn(self.agent.run(self.stop.subscribe()));
        Running {
            dir: self.dir,
            hub: self.hub,
            stop: self.stop,
            task,
            _server: self._server,
        }
    }

    /// Runs the agent to its end; its logs must be exactly what it says.
    async fn end(self) -> (JobEnd, Arc<TestHub>) {
        let running = self.start();
        let end = running.task.await.unwrap().unwrap();
        assert_delivered(&end, &running.hub);
        (end, running.hub)
    }
}

struct Running {
    dir: tempfile::TempDir,
    hub: Arc<TestHub>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<JobEnd, AgentError>>,
    _server: Server,
}

impl Running {
    fn pid(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("work").join(name)).unwrap()
    }
}

fn assert_delivered(end: &JobEnd, hub: &TestHub) {
    let state = hub.state.lock();
    assert_eq!(state.violations, Vec::<String>::new());
    assert!(end.delivered);
    assert_eq!(state.results.last(), Some(&end.result));
    for (step, end) in (0..).zip(&end.result.log_ends) {
        let have = state.logs.get(&step).map_or(0, Vec::len);
        assert_eq!(have as u64, *end, "bytes of step {step}");
    }
}

fn phases(end: &JobEnd) -> Vec<StepPhase> {
    end.result.steps.iter().map(|step| step.state()).collect()
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !pid.trim().is_empty() && !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn steps_share_a_directory_and_give_logs_outputs_and_a_result() {
    let steps = vec![
        step(
            "build",
            "echo one > file; echo \"version=1.2\" >> $RUSTCI_OUTPUT; echo built",
        ),
        step(
            "test",
            "cat file; pwd; echo \"$RUSTCI_STEP\"; printf 'n<<E\\na\\nb\\nE\\n' > $RUSTCI_OUTPUT",
        ),
    ];
    let bench = Bench::new(offer(steps)).await;
    let workdir = bench.path("work");
    let (end, hub) = bench.end().await;
    assert_eq!(
        (end.result.outcome(), end.exit_code()),
        (Outcome::Succeeded, 0)
    );
    assert_eq!(phases(&end), [StepPhase::Succeeded, StepPhase::Succeeded]);
    assert_eq!(end.result.steps[0].exit_code, Some(0));
    let times = |at: usize| {
        (
            end.result.steps[at].started_unix_ms,
            end.result.steps[at].ended_unix_ms,
        )
    };
    assert!(0 < times(0).0 && times(0).0 <= times(0).1 && times(0).1 <= times(1).0);
    let outputs: Vec<_> = end
        .result
        .outputs
        .iter()
        .map(|output| {
            (
                output.step.as_str(),
                output.name.as_str(),
                output.value.as_str(),
            )
        })
        .collect();
    assert_eq!(
        outputs,
        [("build", "version", "1.2"), ("test", "n", "a\nb")]
    );
    let state = hub.state.lock();
    assert_eq!(state.log(0), "built\n");
    assert_eq!(state.log(1), format!("one\n{}\ntest\n", workdir.display()));
    assert_eq!(state.closed.len(), 2);
}

#[tokio::test]
async fn the_first_failure_skips_the_rest() {
    let steps = vec![
        step("a", "true"),
        step("b", "exit 42"),
        step("c", "echo no"),
    ];
    let (end, hub) = Bench::new(offer(steps)).await.end().await;
    assert_eq!(
        (end.result.outcome(), end.exit_code()),
        (Outcome::StepFailed, 1)
    );
    assert_eq!(
        phases(&end),
        [StepPhase::Succeeded, StepPhase::Failed, StepPhase::Skipped]
    );
    assert_eq!(end.result.message, "step `b` exited with code 42");
    assert_eq!(end.result.steps[1].exit_code, Some(42));
    assert_eq!(end.result.log_ends, [0, 0, 0]);
    assert!(!hub.state.lock().logs.contains_key(&2));
}

#[tokio::test]
async fn a_step_killed_by_a_signal_says_which() {
    let steps = vec![step("a", "kill -KILL $$")];
    let (end, _) = Bench::new(offer(steps)).await.end().await;
    assert_eq!(
        (end.result.steps[0].exit_code, end.result.steps[0].signal),
        (None, Some(9))
    );
    assert!(
        end.result.message.contains("may have run out of memory"),
        "{}",
        end.result.message
    );
}

#[tokio::test]
async fn a_missing_shell_or_directory_fails_the_step_in_words() {
    let mut broken = step("a", "true");
    broken.shell = vec!["/no/bash".to_owned(), "-c".to_owned()];
    let (end, _) = Bench::new(offer(vec![broken])).await.end().await;
    assert_eq!(end.result.outcome(), Outcome::StepFailed);
    assert!(
        end.result
            .message
            .starts_with("step `a`: cannot start the shell `/no/bash`")
    );
    let mut lost = step("a", "true");
    lost.workdir = "not/there".to_owned();
    let (end, _) = Bench::new(offer(vec![lost])).await.end().await;
    assert!(
        end.result.message.contains("does not exist"),
        "{}",
        end.result.message
    );
}

#[tokio::test]
async fn steps_see_the_documented_environment_and_only_their_own_values() {
    let script = "echo $CI $RUSTCI $RUSTCI_RUN $RUSTCI_JOB $RUSTCI_NAMESPACE $RUSTCI_ATTEMPT \
                  $RUSTCI_FENCE $RUSTCI_STEP \"$RUSTCI_WORKSPACE\" \"$COLOUR\" \"$FROM\" \"$TREE\"\n\
                  test -w \"$HOME\"\ntest -z \"$(env | grep -E '^RUSTCI_(AGENT|FROM)_')\"";
    let mut first = step("first", script);
    first.env = vec![
        variable("COLOUR", EnvSource::Value("blue".to_owned()), false),
        variable(
            "FROM",
            EnvSource::FromAgentEnv("RUSTCI_FROM_0".to_owned()),
            false,
        ),
        variable(
            "MISSING",
            EnvSource::FromAgentEnv("RUSTCI_FROM_9".to_owned()),
            false,
        ),
    ];
    let second = step(
        "second",
        "echo \"[$COLOUR][$FROM][${MISSING-unset}][$TREE]\"",
    );
    let mut offer = offer(vec![first, second]);
    offer.base_env = vec![variable("TREE", EnvSource::Value("oak".to_owned()), false)];
    let mut bench = Bench::new(offer).await;
    let given = [
        ("RUSTCI_FROM_0".into(), "given".into()),
        ("RUSTCI_AGENT_X".into(), "x".into()),
    ];
    bench.agent.config.environment = bench.agent.config.environment.with_sources(given);
    let workdir = bench.path("work");
    let (end, hub) = bench.end().await;
    assert_eq!(
        end.result.outcome(),
        Outcome::Succeeded,
        "{}",
        end.result.message
    );
    let state = hub.state.lock();
    let expected = format!(
        "true true build-1 compile team 2 7 first {} blue given oak\n",
        workdir.display()
    );
    assert_eq!(state.log(0), expected);
    assert_eq!(state.log(1), "[][][unset][oak]\n");
}

#[tokio::test]
async fn secrets_are_masked_in_logs_and_outputs_also_when_written_in_parts() {
    let script = "echo \"a $TOKEN b\"; printf hunt; sleep 0.1; printf 'er22\\n'\n\
                  printf %s \"$TOKEN\" | base64; echo \"out=<$TOKEN>\" > $RUSTCI_OUTPUT\n\
                  echo hunter2";
    let mut leaky = step("leaky", script);
    let source = EnvSource::FromAgentEnv("RUSTCI_FROM_3".to_owned());
    leaky.env = vec![variable("TOKEN", source, true)];
    let other = step("other", "printf '%s\\n' hunter22 \"[$TOKEN]\"");
    let mut bench = Bench::new(offer(vec![leaky, other])).await;
    let given = [("RUSTCI_FROM_3".into(), "hunter22".into())];
    bench.agent.config.environment = bench.agent.config.environment.with_sources(given);
    let (end, hub) = bench.end().await;
    let state = hub.state.lock();
    assert_eq!(state.log(0), "a *** b\n***\n***\nhunter2\n");
    assert_eq!(state.log(1), "***\n[]\n");
    assert_eq!(end.result.outputs[0].value, "<***>");
}

#[tokio::test]
async fn outputs_that_cannot_be_read_fail_the_step() {
    let steps = vec![
        step("a", "echo 'no equals sign' > $RUSTCI_OUTPUT"),
        step("b", "true"),
    ];
    let (end, _) = Bench::new(offer(steps)).await.end().await;
    assert_eq!(end.result.outcome(), Outcome::StepFailed);
    assert_eq!(phases(&end), [StepPhase::Failed, StepPhase::Skipped]);
    assert!(
        end.result
            .message
            .starts_with("outputs of step `a`, line 1:")
    );
    let large = "head -c 20000 /dev/zero | tr '\\0' x | sed 's/^/v=/' > $RUSTCI_OUTPUT";
    let steps = vec![step("a", large), step("b", large)];
    let (end, _) = Bench::new(offer(steps)).await.end().await;
    assert_eq!(phases(&end), [StepPhase::Succeeded, StepPhase::Failed]);
    assert!(
        end.result.message.contains("more than 32 KiB"),
        "{}",
        end.result.message
    );
}

#[tokio::test]
async fn a_step_and_a_job_over_their_time_are_told_apart() {
    let mut slow = step("slow", "sleep 600");
    slow.timeout_ms = 200;
    let (end, _) = Bench::new(offer(vec![slow, step("b", "true")]))
        .await
        .end()
        .await;
    assert_eq!(end.result.outcome(), Outcome::StepTimedOut);
    assert_eq!(phases(&end), [StepPhase::TimedOut, StepPhase::Skipped]);
    assert_eq!(end.result.message, "step `slow` ran longer than 200ms");
    let mut offer = offer(vec![step("a", "true"), step("slow", "sleep 600")]);
    offer.timeout_ms = 500;
    offer.steps[1].timeout_ms = 100_000;
    let (end, _) = Bench::new(offer).await.end().await;
    assert_eq!(end.result.outcome(), Outcome::JobTimedOut);
    assert_eq!(phases(&end), [StepPhase::Succeeded, StepPhase::TimedOut]);
    assert_eq!(end.result.message, "the job ran longer than 500ms");
}

#[tokio::test]
async fn a_cancelled_job_may_clean_up_and_runs_no_more_steps() {
    let script = "trap 'echo cleaned; exit 1' TERM; echo ready; while :; do sleep 0.01; done";
    let offer = offer(vec![step("a", script), step("b", "true")]);
    let key = offer.job.clone().unwrap();
    let running = Bench::new(offer).await.start();
    running.hub.until_said(0, "ready").await;
    let other = JobKey {
        fence: 6,
        ..key.clone()
    };
    let refused = running
        .hub
        .cancel(&other, CancelReason::Cancelled, LONG)
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    running
        .hub
        .cancel(&key, CancelReason::Cancelled, LONG)
        .await
        .unwrap();
    let end = running.task.await.unwrap().unwrap();
    assert_delivered(&end, &running.hub);
    assert_eq!(end.result.outcome(), Outcome::Cancelled);
    assert_eq!(phases(&end), [StepPhase::Cancelled, StepPhase::Cancelled]);
    assert!(running.hub.state.lock().log(0).ends_with("cleaned\n"));
}

#[tokio::test]
async fn the_end_of_the_runs_time_is_its_own_outcome_and_the_grace_is_kept() {
    let script = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
    let offer = offer(vec![step("a", script)]);
    let key = offer.job.clone().unwrap();
    let running = Bench::new(offer).await.start();
    running.hub.until_said(0, "ready").await;
    let grace = Duration::from_millis(100);
    running
        .hub
        .cancel(&key, CancelReason::RunTimeout, grace)
        .await
        .unwrap();
    let end = running.task.await.unwrap().unwrap();
    assert_eq!(end.result.outcome(), Outcome::RunTimedOut);
    assert_eq!(phases(&end), [StepPhase::TimedOut]);
    assert_eq!(end.result.steps[0].signal, Some(9));
}

#[tokio::test]
async fn a_repeated_offer_is_accepted_and_progress_is_told_again() {
    let offer = offer(vec![step(
        "a",
        "echo ready; while ! test -e go; do sleep 0.01; done",
    )]);
    let running = Bench::new(offer.clone()).await.start();
    let hub = &running.hub;
    let is_running = |state: &State| state.phase(0) == Some(StepPhase::Running);
    hub.until("the step runs", is_running).await;
    hub.change(|state| state.progress.clear());
    assert!(hub.offer(&offer).await.accepted);
    hub.until("it is told again", is_running).await;
    let mut other = offer.clone();
    other.job.as_mut().unwrap().fence += 1;
    let refused = hub.offer(&other).await;
    assert!(!refused.accepted && !refused.reason.is_empty());
    std::fs::write(running.dir.path().join("work/go"), "").unwrap();
    let end = running.task.await.unwrap().unwrap();
    assert_delivered(&end, hub);
    assert_eq!(end.result.outcome(), Outcome::Succeeded);
    assert_eq!(hub.state.lock().results.len(), 1);
}

#[tokio::test]
async fn the_result_is_sent_until_it_is_acknowledged() {
    let bench = Bench::new(offer(vec![step("a", "exit 3")])).await;
    let wait = CallError::unavailable("not yet").retry_after(Duration::from_millis(1));
    bench
        .hub
        .change(|state| state.refuse_results = [wait.clone(), wait].into());
    let (end, hub) = bench.end().await;
    assert!(end.delivered);
    let state = hub.state.lock();
    assert_eq!(state.results, vec![end.result; 3]);
}

#[tokio::test]
async fn a_log_cut_again_and_again_arrives_exactly_once() {
    let script = "i=0; while test $i -lt 40000; do echo \"line $i\"; i=$((i+1)); done";
    let bench = Bench::new(offer(vec![step("a", script), step("b", script)])).await;
    bench
        .hub
        .change(|state| state.cuts = [0, 1, 1000, 0, 70_000, 64, 200_000].into());
    let (end, hub) = bench.end().await;
    assert_eq!(end.result.outcome(), Outcome::Succeeded);
    let expected: String = (0..40000).map(|at| format!("line {at}\n")).collect();
    let state = hub.state.lock();
    assert!(state.log(0) == expected && state.log(1) == expected);
    assert!(
        state.cuts.is_empty(),
        "the streams were cut as often as planned"
    );
    assert_eq!(state.closed.len(), 2);
}

#[tokio::test]
async fn large_output_is_complete_and_bounded_by_the_hubs_pace() {
    let mut bench = Bench::new(offer(vec![step("a", "head -c 60000000 /dev/zero")])).await;
    bench.agent.config.spool_bytes = 1 << 20;
    let (end, hub) = bench.end().await;
    assert_eq!(end.result.log_ends, [60_000_000]);
    assert!(hub.state.lock().logs[&0].iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn a_job_that_the_hub_takes_no_reports_of_is_stopped() {
    let bench = Bench::new(offer(vec![step("a", "echo $$ > pid; sleep 600")])).await;
    let refused = CallError::new(Code::FailedPrecondition, "a newer attempt exists");
    bench.hub.change(|state| {
        state.refuse_progress = Some(refused.clone());
        state.refuse_logs = Some(refused.clone());
        state.refuse_results = [refused].into();
    });
    let running = bench.start();
    let end = running.task.await.unwrap().unwrap();
    assert!(!end.delivered);
    assert_eq!(end.result.outcome(), Outcome::Cancelled);
    assert_eq!(
        end.result.message,
        "the hub takes no more reports of this attempt"
    );
}

#[tokio::test]
async fn an_agent_that_is_stopped_ends_its_processes_and_says_so() {
    let script = "sleep 600 & echo $! > child; echo $$ > shell; echo ready; wait";
    let running = Bench::new(offer(vec![step("a", script)])).await.start();
    running.hub.until_said(0, "ready").await;
    running.stop.send_replace(true);
    let pids = [running.pid("child"), running.pid("shell")];
    let end = running.task.await.unwrap().unwrap();
    assert_delivered(&end, &running.hub);
    assert_eq!((end.result.outcome(), end.exit_code()), (Outcome::Setup, 2));
    assert!(!pids.iter().any(|pid| alive(pid)));
}

#[tokio::test]
async fn a_dropped_agent_leaves_no_process() {
    let script = "sleep 600 & echo $! > child; echo $$ > shell\n\
                  setsid sh -c 'echo $$ > daemon; echo ready; exec sleep 600' & wait";
    let running = Bench::new(offer(vec![step("a", script)])).await.start();
    running.hub.until_said(0, "ready").await;
    let pids = ["child", "shell", "daemon"].map(|name| running.pid(name));
    assert!(pids.iter().all(|pid| alive(pid)));
    running.task.abort();
    assert!(running.task.await.unwrap_err().is_cancelled());
    assert!(!pids.iter().any(|pid| alive(pid)));
}

#[tokio::test]
async fn without_acknowledgement_the_agent_leaves_after_its_patience_with_the_backup_written() {
    let mut bench = Bench::new(offer(vec![step("a", "echo said")])).await;
    let message = bench.path("termination-log");
    std::fs::write(&message, "").unwrap();
    bench.agent.config.termination_log = Some(message.clone());
    bench.agent.config.hub_patience = Duration::from_millis(500);
    bench
        .hub
        .change(|state| state.refuse_logs = Some(CallError::unavailable("away")));
    let running = bench.start();
    let end = running.task.await.unwrap().unwrap();
    assert!(!end.delivered);
    let written = std::fs::read_to_string(message).unwrap();
    assert_eq!(termination::decode(&written), Some(end.result));
}

#[tokio::test]
async fn a_hub_that_takes_no_logs_blocks_the_process_but_not_its_cancellation() {
    let offer = offer(vec![step("a", "exec yes")]);
    let key = offer.job.clone().unwrap();
    let mut bench = Bench::new(offer).await;
    bench.agent.config.spool_bytes = 1 << 20;
    bench.agent.config.hub_patience = Duration::from_millis(500);
    bench
        .hub
        .change(|state| state.refuse_logs = Some(CallError::unavailable("away")));
    let running = bench.start();
    let is_running = |state: &State| state.phase(0) == Some(StepPhase::Running);
    running.hub.until("the step runs", is_running).await;
    running
        .hub
        .cancel(&key, CancelReason::Cancelled, LONG)
        .await
        .unwrap();
    let end = running.task.await.unwrap().unwrap();
    assert_eq!(end.result.outcome(), Outcome::Cancelled);
    assert!(end.result.log_ends[0] < 3 << 20);
}

#[tokio::test]
async fn an_agent_without_an_offer_ends() {
    let mut bench = Bench::new(offer(vec![])).await;
    bench.agent.config.hub_patience = Duration::from_millis(200);
    let ended = bench.start().task.await.unwrap();
    assert!(matches!(ended, Err(AgentError::NoOffer(_))), "{ended:?}");
    let bench = Bench::new(offer(vec![])).await;
    bench.stop.send_replace(true);
    let ended = bench.start().task.await.unwrap();
    assert!(matches!(ended, Err(AgentError::Stopped)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_agents_in_one_process_do_not_disturb_each_other() {
    let mut agents = Vec::new();
    for number in 0..6 {
        let script = format!(
            "(sleep 0.0{number}; true) & for i in 1 2 3 4 5; do sh -c 'exit 0'; done; \
             echo from {number}; wait; exit {number}"
        );
        agents.push(Bench::new(offer(vec![step("a", &script)])).await.start());
    }
    for (number, running) in (0..).zip(agents) {
        let end = running.task.await.unwrap().unwrap();
        assert_delivered(&end, &running.hub);
        assert_eq!(end.result.steps[0].exit_code, Some(number));
        assert_eq!(running.hub.state.lock().log(0), format!("from {number}\n"));
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_a_failed_set_up() {
    let mut bench = Bench::new(offer(vec![step("a", "true")])).await;
    bench.agent.config.workdir = PathBuf::from("/proc/nothing/here");
    let (end, _) = bench.end().await;
    assert_eq!((end.result.outcome(), end.exit_code()), (Outcome::Setup, 2));
    assert!(
        end.result.message.contains("/proc/nothing/here"),
        "{}",
        end.result.message
    );
    assert_eq!(phases(&end), [StepPhase::Skipped]);
}
