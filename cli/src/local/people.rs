//! The people of a local run: whoever sits at the terminal, or the options in their place.
//! Must not decide what an answer means: the planner does.

use std::io::{BufRead, IsTerminal};

use crds::{ApprovalRequest, Decision, PipelineRunStatus, PipelineSpec};
use jiff::Timestamp;
use planner::run::ApprovalFact;
use tokio::sync::mpsc;

use crate::args::RunArguments;
use crate::failure::Failure;

/// Lines that may wait to be read as answers.
const LINES: usize = 4;

/// Answers the jobs that wait for approval.
pub(super) struct People {
    approved: Vec<String>,
    all: bool,
    /// The job that the terminal was asked about last, while there is no answer.
    asked: Option<String>,
    answers: Vec<ApprovalFact>,
    lines: Lines,
}

/// Where answers are typed.
enum Lines {
    /// There is no terminal, or nothing more comes from it.
    None,
    /// Nobody was asked so far, so nothing was taken from standard input.
    Untouched,
    /// Typed lines.
    Open(mpsc::Receiver<String>),
}

impl People {
    /// The people that the options and standard input stand for.
    pub(super) fn new(arguments: &RunArguments, spec: &PipelineSpec) -> Result<Self, Failure> {
        // A job that is used from elsewhere may bring it along.
        let may_ask = |job: &&crds::Job| job.approval.is_some() || job.uses.is_some();
        let asking = spec.jobs.iter().filter(may_ask);
        let asking: Vec<_> = asking.map(|job| job.name.as_str()).collect();
        let unknown = |name: &&String| !asking.contains(&name.as_str());
        if let Some(name) = arguments.approve.iter().find(unknown) {
            let there_are = match asking.is_empty() {
                true => "none does".to_owned(),
                false => format!("those that do: {}", asking.join(", ")),
            };
            return Err(Failure::usage(format!(
                "--approve {name}: no job of this name asks for approval; {there_are}"
            )));
        }
        let lines = match std::io::stdin().is_terminal() {
            true => Lines::Untouched,
            false => Lines::None,
        };
        Ok(Self {
            approved: arguments.approve.clone(),
            all: arguments.approve_all,
            asked: None,
            answers: Vec::new(),
            lines,
        })
    }

    /// Every answer so far.
    pub(super) fn answers(&self) -> Vec<ApprovalFact> {
        self.answers.clone()
    }

    /// Looks at what jobs ask for. True when there is a new answer; the text is a question for
    /// the terminal.
    pub(super) fn look(
        &mut self,
        status: &PipelineRunStatus,
        now: Timestamp,
    ) -> (bool, Option<String>) {
        let before = self.answers.len();
        let mut question = None;
        let open: Vec<_> = status
            .approvals
            .iter()
            .filter(|request| request.decision.is_none() && waits(status, &request.job))
            .filter(|request| self.answers.iter().all(|answer| answer.job != request.job))
            .collect();
        let is_open = |job: &String| open.iter().any(|request| request.job == *job);
        self.asked = self.asked.take().filter(is_open);
        for request in open {
            let job = request.job.clone();
            if self.all || self.approved.contains(&job) {
                self.answer(job, Decision::Approve, user(), None, now);
            } else if matches!(self.lines, Lines::None) {
                let comment = format!(
                    "there is no terminal to ask on; run it again with `--approve {job}` or \
                     `--approve-all`"
                );
                self.answer(
                    job,
                    Decision::Reject,
                    "rustci".to_owned(),
                    Some(comment),
                    now,
                );
            } else if self.asked.is_none() {
                question = Some(asking(request));
                self.asked = Some(job);
            }
        }
        (self.answers.len() > before, question)
    }

    /// Waits for the answer to the question that was asked; for ever when there is none. Cancel-safe.
    pub(super) async fn next(&mut self) {
        let Some(job) = self.asked.clone() else {
            return std::future::pending().await;
        };
        if matches!(self.lines, Lines::Untouched) {
            self.lines = Lines::Open(read_terminal());
        }
        let line = match &mut self.lines {
            Lines::Open(lines) => lines.recv().await,
            Lines::None | Lines::Untouched => None,
        };
        let Some(line) = line else {
            self.lines = Lines::None;
            self.asked = None;
            return;
        };
        let decision = match line.trim().to_lowercase().as_str() {
            "y" | "yes" => Decision::Approve,
            _ => Decision::Reject,
        };
        self.asked = None;
        self.answer(job, decision, user(), None, Timestamp::now());
    }

    fn answer(
        &mut self,
        job: String,
        decision: Decision,
        by: String,
        comment: Option<String>,
        at: Timestamp,
    ) {
        let name = job.clone();
        self.answers.push(ApprovalFact {
            job,
            decision,
            by,
            at,
            comment,
            name,
        });
    }
}

fn waits(status: &PipelineRunStatus, job: &str) -> bool {
    let mut entries = status.jobs.iter();
    entries.any(|entry| entry.job.as_ref().unwrap_or(&entry.name) == job && !entry.state.is_final())
}

fn asking(request: &ApprovalRequest) -> String {
    let message = request.message.as_deref().unwrap_or("may it start?");
    let job = &request.job;
    format!("job {job} waits for approval: {message} Type y and Enter to approve it [y/N]")
}

/// The name under which answers stand in the run.
fn user() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    name.ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "the user of this machine".to_owned())
}

/// Reads lines on a thread of its own: a read from a terminal cannot be called off.
fn read_terminal() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use crds::JobStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn people(approved: &[&str], lines: Lines) -> People {
        People {
            approved: approved.iter().map(|name| (*name).to_owned()).collect(),
            all: false,
            asked: None,
            answers: Vec::new(),
            lines,
        }
    }

    fn waiting(jobs: &[&str]) -> PipelineRunStatus {
        let epoch = Time(Timestamp::UNIX_EPOCH);
        let request = |job: &&str| ApprovalRequest {
            message: Some("Ship it?".to_owned()),
            ..ApprovalRequest::new(job, epoch.clone(), epoch.clone())
        };
        let entry = |job: &&str| JobStatus {
            name: (*job).to_owned(),
            ..JobStatus::default()
        };
        PipelineRunStatus {
            approvals: jobs.iter().map(request).collect(),
            jobs: jobs.iter().map(entry).collect(),
            ..PipelineRunStatus::default()
        }
    }

    fn decisions(people: &People) -> Vec<(String, Decision)> {
        let answers = people.answers.iter();
        answers.map(|it| (it.job.clone(), it.decision)).collect()
    }

    #[test]
    fn a_job_that_an_option_names_is_approved_and_another_rejected_without_a_terminal() {
        let mut people = people(&["east"], Lines::None);
        let (changed, question) = people.look(&waiting(&["east", "west"]), Timestamp::now());
        assert!(changed && question.is_none());
        assert_eq!(
            decisions(&people),
            [
                ("east".to_owned(), Decision::Approve),
                ("west".to_owned(), Decision::Reject)
            ]
        );
        let comment = people.answers[1].comment.as_deref().unwrap();
        assert!(comment.contains("--approve west"), "{comment}");
        let (changed, _) = people.look(&waiting(&["east", "west"]), Timestamp::now());
        assert!(!changed, "each is answered once");
    }

    #[tokio::test]
    async fn the_terminal_is_asked_one_question_after_the_other() {
        let (sender, lines) = mpsc::channel(LINES);
        let mut people = people(&[], Lines::Open(lines));
        let status = waiting(&["east", "west"]);
        let (changed, question) = people.look(&status, Timestamp::now());
        assert!(!changed);
        assert_eq!(
            question.unwrap(),
            "job east waits for approval: Ship it? Type y and Enter to approve it [y/N]"
        );
        assert!(
            people.look(&status, Timestamp::now()).1.is_none(),
            "asked once"
        );
        sender.send(" Yes ".to_owned()).await.unwrap();
        people.next().await;
        assert!(
            people
                .look(&status, Timestamp::now())
                .1
                .unwrap()
                .contains("west")
        );
        sender.send(String::new()).await.unwrap();
        people.next().await;
        assert_eq!(
            decisions(&people),
            [
                ("east".to_owned(), Decision::Approve),
                ("west".to_owned(), Decision::Reject)
            ]
        );
    }

    #[tokio::test]
    async fn a_terminal_that_is_closed_is_none() {
        let (sender, lines) = mpsc::channel(LINES);
        let mut people = people(&[], Lines::Open(lines));
        people.look(&waiting(&["east"]), Timestamp::now());
        drop(sender);
        people.next().await;
        assert!(people.look(&waiting(&["east"]), Timestamp::now()).0);
        assert_eq!(decisions(&people), [("east".to_owned(), Decision::Reject)]);
    }
}
