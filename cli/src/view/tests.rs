//! Tests of the order in which a view shows states and logs.
//! Must not test how they look.

use bytes::Bytes;
use crds::{PipelineRunSpec, PipelineRunStatus, StepState, StepStatus, condition};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use parking_lot::Mutex;

use super::*;

/// Writes every event down in a word.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Printer for Notes {
    fn started(&mut self, _: &PipelineRun) -> io::Result<()> {
        self.0.lock().push("started".to_owned());
        Ok(())
    }
    fn job(&mut self, job: &JobStatus) -> io::Result<()> {
        self.0.lock().push(format!("{} {:?}", job.name, job.state));
        Ok(())
    }
    fn log(&mut self, job: &str, step: &str, line: &[u8]) -> io::Result<()> {
        self.0
            .lock()
            .push(format!("{job}/{step} {}", String::from_utf8_lossy(line)));
        Ok(())
    }
    fn notice(&mut self, text: &str) -> io::Result<()> {
        self.0.lock().push(text.to_owned());
        Ok(())
    }
    fn ended(&mut self, end: &End<'_>) -> io::Result<()> {
        self.0.lock().push(end.verdict.word().to_owned());
        Ok(())
    }
    fn settle(&mut self, _: Option<&PipelineRun>, _: Timestamp) -> io::Result<()> {
        Ok(())
    }
}

/// Logs that come in two pieces, the second only when the job has ended.
struct SlowLogs;

impl LogSource for SlowLogs {
    fn read<'a>(
        &'a self,
        key: &'a StepKey,
        mut progress: watch::Receiver<JobProgress>,
        pieces: &'a mpsc::Sender<Piece>,
    ) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let send = |text: &'static [u8]| pieces.send(Piece::Bytes(key.clone(), text.into()));
            send(b"first\nse").await.map_err(|_| "gone".to_owned())?;
            let _ = progress.wait_for(|progress| progress.ended).await;
            pieces
                .send(Piece::Bytes(key.clone(), Bytes::from_static(b"cond")))
                .await
                .map_err(|_| "gone".to_owned())
        }
        .boxed()
    }
}

fn run(state: JobState, step: StepState, ended: bool) -> Update {
    let condition = |type_: &str| Condition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: "Succeeded".to_owned(),
        message: String::new(),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    };
    let mut run = PipelineRun::new("oak-1", PipelineRunSpec::default());
    run.status = Some(PipelineRunStatus {
        conditions: match ended {
            true => vec![
                condition(condition::COMPLETED),
                condition(condition::SUCCEEDED),
            ],
            false => Vec::new(),
        },
        jobs: vec![JobStatus {
            name: "fell".to_owned(),
            state,
            attempt: 1,
            steps: vec![StepStatus {
                name: "saw".to_owned(),
                state: step,
                ..StepStatus::default()
            }],
            ..JobStatus::default()
        }],
        ..PipelineRunStatus::default()
    });
    Update::Run(Arc::new(run))
}

async fn notes(updates: Vec<Update>) -> (Vec<String>, Option<Verdict>) {
    let notes = Notes::default();
    let view = View::new(
        Box::new(notes.clone()),
        Arc::new(SlowLogs),
        Selection::default(),
    );
    let (sender, receiver) = mpsc::channel(updates.len());
    for update in updates {
        sender.send(update).await.unwrap();
    }
    drop(sender);
    let verdict = view.show(receiver).await.unwrap();
    let notes = notes.0.lock().clone();
    (notes, verdict)
}

#[tokio::test]
async fn the_end_of_a_job_is_shown_after_the_last_line_of_its_log() {
    let (notes, verdict) = notes(vec![
        run(JobState::Running, StepState::Running, false),
        run(JobState::Succeeded, StepState::Succeeded, false),
        run(JobState::Succeeded, StepState::Succeeded, true),
    ])
    .await;
    assert_eq!(verdict, Some(Verdict::Succeeded));
    assert_eq!(
        notes,
        [
            "started",
            "fell Running",
            "fell/saw first",
            "fell/saw second",
            "fell Succeeded",
            "succeeded"
        ]
    );
}

#[tokio::test]
async fn a_run_that_is_seen_only_at_its_end_shows_its_logs() {
    let (notes, _) = notes(vec![run(JobState::Succeeded, StepState::Succeeded, true)]).await;
    assert!(notes.contains(&"fell/saw second".to_owned()), "{notes:?}");
}

#[tokio::test]
async fn without_further_states_the_view_ends_with_what_is_stored() {
    let (notes, verdict) = notes(vec![run(JobState::Running, StepState::Running, false)]).await;
    assert_eq!(verdict, None);
    assert_eq!(
        notes,
        [
            "started",
            "fell Running",
            "fell/saw first",
            "fell/saw second"
        ]
    );
}

#[tokio::test]
async fn what_follows_from_the_end_of_a_job_is_shown_after_it() {
    let Update::Run(run) = run(JobState::Succeeded, StepState::Succeeded, true) else {
        unreachable!("it is a run")
    };
    let mut run = (*run).clone();
    let jobs = &mut run.status.as_mut().unwrap().jobs;
    let skipped = JobStatus {
        name: "stack".to_owned(),
        state: JobState::Skipped,
        ..JobStatus::default()
    };
    jobs.insert(0, skipped);
    let (notes, _) = notes(vec![Update::Run(Arc::new(run))]).await;
    let end = [
        "fell/saw second",
        "fell Succeeded",
        "stack Skipped",
        "succeeded",
    ];
    assert_eq!(notes[notes.len() - 4..], end, "{notes:?}");
}

/// The run with another attempt of its job; while it waits for the next, its state is Pending.
fn at_attempt(attempt: u32, update: Update) -> Update {
    let Update::Run(run) = update else {
        unreachable!("it is a run")
    };
    let mut run = (*run).clone();
    let job = &mut run.status.as_mut().unwrap().jobs[0];
    job.attempt = attempt;
    job.retry_time = (job.state == JobState::Pending).then_some(Time(Timestamp::UNIX_EPOCH));
    Update::Run(Arc::new(run))
}

#[tokio::test]
async fn an_attempt_that_has_ended_before_it_is_seen_is_shown_after_the_one_before() {
    let (notes, _) = notes(vec![
        at_attempt(1, run(JobState::Running, StepState::Running, false)),
        at_attempt(2, run(JobState::Succeeded, StepState::Succeeded, true)),
    ])
    .await;
    assert_eq!(
        notes,
        [
            "started",
            "fell Running",
            "fell/saw first",
            "fell/saw second",
            "fell/saw first",
            "fell/saw second",
            "fell Succeeded",
            "succeeded"
        ]
    );
}

#[tokio::test]
async fn a_job_waits_for_its_next_attempt_only_after_the_log_of_the_last() {
    let (notes, _) = notes(vec![
        at_attempt(1, run(JobState::Running, StepState::Running, false)),
        at_attempt(1, run(JobState::Pending, StepState::Failed, false)),
        at_attempt(2, run(JobState::Starting, StepState::Pending, false)),
        at_attempt(2, run(JobState::Running, StepState::Running, false)),
        at_attempt(2, run(JobState::Succeeded, StepState::Succeeded, true)),
    ])
    .await;
    let log = ["fell/saw first", "fell/saw second"];
    let of_logs: Vec<_> = notes.iter().filter(|note| note.contains("saw")).collect();
    assert_eq!(of_logs, [log, log].concat());
    let last = [log[0], log[1], "fell Succeeded", "succeeded"];
    assert_eq!(notes[notes.len() - 4..], last, "{notes:?}");
}
