//! Tests of a job without a hub: order, verdicts and the result.
//! Must not test what a single step does.

use super::*;
use crate::environment::Environment;
use runner_messages::{EnvEntry, EnvSource};

struct Bench {
    _dir: tempfile::TempDir,
    config: AgentConfig,
    offer: Offer,
    stop: watch::Sender<Option<StopRequest>>,
}

impl Bench {
    fn new(scripts: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (workdir, state) = (dir.path().join("work"), dir.path().join("state"));
        let mut config = AgentConfig::new(workdir, state, Environment::of_this_process());
        config.grace = Duration::from_secs(60);
        let steps = scripts.iter().enumerate().map(|(at, script)| StepSpec {
            name: format!("step-{at}"),
            script: (*script).to_owned(),
            ..StepSpec::default()
        });
        let offer = Offer {
            steps: steps.collect(),
            ..Offer::default()
        };
        Self {
            _dir: dir,
            config,
            offer,
            stop: watch::Sender::new(None),
        }
    }

    async fn run(&self) -> (JobResult, Vec<String>) {
        let key = JobKey {
            job: "compile".to_owned(),
            fence: 4,
            ..JobKey::default()
        };
        let course = Course::new(&key, &self.offer);
        let job = Job::new(&self.config, &key, &self.offer, self.stop.subscribe());
        let mut readers = Vec::new();
        let result = job.run(course, |_, log| readers.push(log)).await;
        let text = |log: &LogReader| {
            let bytes = log.read(0, 1 << 20).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        (result, readers.iter().map(text).collect())
    }
}

fn phases(result: &JobResult) -> Vec<StepPhase> {
    result.steps.iter().map(|step| step.state()).collect()
}

#[tokio::test]
async fn all_steps_run_in_one_directory_and_give_their_outputs() {
    let bench = Bench::new(&[
        "echo one > file; echo a=1 > $RUSTCI_OUTPUT",
        "cat file; echo $RUSTCI_JOB $RUSTCI_FENCE $RUSTCI_STEP; echo b=2 >> $RUSTCI_OUTPUT",
    ]);
    let (result, logs) = bench.run().await;
    assert_eq!(result.outcome(), Outcome::Succeeded, "{}", result.message);
    assert_eq!(logs, ["", "one\ncompile 4 step-1\n"]);
    let outputs: Vec<_> = result
        .outputs
        .iter()
        .map(|o| (&*o.step, &*o.name, &*o.value))
        .collect();
    assert_eq!(outputs, [("step-0", "a", "1"), ("step-1", "b", "2")]);
    assert_eq!(result.log_ends, [0, logs[1].len() as u64]);
}

#[tokio::test]
async fn the_first_failure_ends_the_job() {
    let (result, logs) = Bench::new(&["true", "exit 7", "true"]).run().await;
    assert_eq!(result.outcome(), Outcome::StepFailed);
    assert_eq!(result.message, "step `step-1` exited with code 7");
    assert_eq!(
        phases(&result),
        [StepPhase::Succeeded, StepPhase::Failed, StepPhase::Skipped]
    );
    assert_eq!(logs.len(), 2, "a skipped step has no log");
}

#[tokio::test]
async fn the_shorter_of_two_times_decides_the_outcome() {
    let mut bench = Bench::new(&["sleep 600"]);
    bench.offer.timeout_ms = 100_000;
    bench.offer.steps[0].timeout_ms = 100;
    assert_eq!(bench.run().await.0.outcome(), Outcome::StepTimedOut);
    let mut bench = Bench::new(&["sleep 600"]);
    bench.offer.timeout_ms = 100;
    bench.offer.steps[0].timeout_ms = 100_000;
    let (result, _) = bench.run().await;
    assert_eq!(result.outcome(), Outcome::JobTimedOut);
    assert_eq!(phases(&result), [StepPhase::TimedOut]);
}

#[tokio::test]
async fn a_job_stopped_before_its_first_step_runs_none() {
    let bench = Bench::new(&["touch ran"]);
    bench.stop.send_replace(Some(StopRequest {
        reason: StopReason::Cancelled,
        grace: Duration::ZERO,
    }));
    let (result, logs) = bench.run().await;
    assert_eq!(result.outcome(), Outcome::Cancelled);
    assert_eq!(phases(&result), [StepPhase::Cancelled]);
    assert!(logs.is_empty());
}

#[tokio::test]
async fn a_secret_of_one_step_is_masked_in_every_step_and_output() {
    let mut bench = Bench::new(&["echo v=$TOKEN > $RUSTCI_OUTPUT", "echo hunter22"]);
    bench.offer.steps[0].env = vec![EnvEntry {
        name: "TOKEN".to_owned(),
        source: Some(EnvSource::Value("hunter22".to_owned())),
        secret: true,
    }];
    let (result, logs) = bench.run().await;
    assert_eq!(result.outputs[0].value, "***");
    assert_eq!(logs[1], "***\n");
}

#[tokio::test]
async fn after_a_failure_only_steps_run_whose_conditions_say_so() {
    let mut bench = Bench::new(&[
        "exit 7",
        "echo on failure",
        "echo never",
        "echo always; false",
    ]);
    for at in [1, 3] {
        bench.offer.steps[at].run_after_failure = true;
    }
    bench.offer.steps[1].skip_after_success = true;
    let (result, logs) = bench.run().await;
    assert_eq!(result.message, "step `step-0` exited with code 7");
    assert_eq!(logs, ["", "on failure\n", "always\n"]);
    use StepPhase::{Failed, Skipped, Succeeded};
    assert_eq!(phases(&result), [Failed, Succeeded, Skipped, Failed]);
}

#[tokio::test]
async fn a_step_for_failures_is_skipped_in_a_job_that_succeeds() {
    let mut bench = Bench::new(&["true", "false"]);
    bench.offer.steps[1].skip_after_success = true;
    bench.offer.steps[1].run_after_failure = true;
    let (result, logs) = bench.run().await;
    assert_eq!(result.outcome(), Outcome::Succeeded);
    assert_eq!(phases(&result), [StepPhase::Succeeded, StepPhase::Skipped]);
    assert_eq!(logs.len(), 1);
}

#[tokio::test]
async fn a_step_that_may_fail_does_not_fail_its_job() {
    let mut bench = Bench::new(&["exit 3", "sleep 600", "echo goes on"]);
    bench.offer.steps[0].continue_on_error = true;
    bench.offer.steps[1].continue_on_error = true;
    bench.offer.steps[1].timeout_ms = 100;
    let (result, logs) = bench.run().await;
    assert_eq!(result.outcome(), Outcome::Succeeded);
    assert_eq!(logs[2], "goes on\n");
    use StepPhase::{Failed, Succeeded, TimedOut};
    assert_eq!(phases(&result), [Failed, TimedOut, Succeeded]);
}

#[tokio::test]
async fn after_a_cancel_only_steps_that_tidy_up_run() {
    let mut bench = Bench::new(&["echo never", "echo tidy", "echo never"]);
    bench.offer.steps[1].run_after_cancel = true;
    bench.stop.send_replace(Some(StopRequest {
        reason: StopReason::Cancelled,
        grace: Duration::ZERO,
    }));
    let (result, logs) = bench.run().await;
    assert_eq!(result.outcome(), Outcome::Cancelled);
    assert_eq!(logs, ["tidy\n"]);
    use StepPhase::{Cancelled, Succeeded};
    assert_eq!(phases(&result), [Cancelled, Succeeded, Cancelled]);
}

#[tokio::test]
async fn steps_that_tidy_up_end_after_the_grace_in_all() {
    let mut bench = Bench::new(&["sleep 600", "sleep 600"]);
    bench.config.grace = Duration::from_millis(50);
    for step in &mut bench.offer.steps {
        step.run_after_cancel = true;
    }
    bench.stop.send_replace(Some(StopRequest {
        reason: StopReason::Cancelled,
        grace: Duration::ZERO,
    }));
    let (result, _) = bench.run().await;
    assert_eq!(result.outcome(), Outcome::Cancelled);
    assert_eq!(phases(&result), [StepPhase::TimedOut, StepPhase::Cancelled]);
}

#[tokio::test]
async fn a_stopped_agent_runs_no_step_that_tidies_up() {
    for reason in [StopReason::AgentStopped, StopReason::Superseded] {
        let mut bench = Bench::new(&["echo never"]);
        bench.offer.steps[0].run_after_cancel = true;
        let grace = Duration::ZERO;
        bench.stop.send_replace(Some(StopRequest { reason, grace }));
        assert!(bench.run().await.1.is_empty(), "{reason:?}");
    }
}
