//! Prints a run for programs: one JSON object a line. The fields are a public format: new ones may
//! come, none goes or changes its meaning.
//! Must not print anything else on standard output.

use std::io::{self, Write};

use crds::{JobState, JobStatus, PipelineRun};
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::{End, Printer, elapsed, lines};

/// One line.
#[derive(Debug, Serialize)]
#[serde(
    tag = "event",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum Event<'a> {
    /// The run begins.
    Start {
        run: String,
        pipeline: Option<&'a str>,
        jobs: Vec<&'a str>,
    },
    /// A job changed.
    Job {
        job: &'a str,
        state: JobState,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
    },
    /// A line of a log; bytes that are not UTF-8 are replaced by U+FFFD.
    Log {
        job: &'a str,
        step: &'a str,
        text: String,
    },
    /// Something about the command itself.
    Notice { text: &'a str },
    /// The run ended: always the last line. `run` is the whole PipelineRun.
    End {
        result: &'static str,
        exit_code: u8,
        duration_millis: Option<u64>,
        run: &'a PipelineRun,
    },
}

/// The printer for programs.
pub struct JsonPrinter<W> {
    out: W,
}

impl<W: Write + Send> JsonPrinter<W> {
    /// A printer that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    fn write(&mut self, event: &Event<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(event).map_err(io::Error::other)?;
        line.push(b'\n');
        self.out.write_all(&line)
    }
}

impl<W: Write + Send> Printer for JsonPrinter<W> {
    fn started(&mut self, run: &PipelineRun) -> io::Result<()> {
        let status = run.status.as_ref();
        let pipeline = status.and_then(|status| status.pipeline.as_ref());
        let jobs = status.map_or(&[][..], |status| &status.jobs);
        self.write(&Event::Start {
            run: run.name_any(),
            pipeline: pipeline.map(|pipeline| pipeline.name.as_str()),
            jobs: jobs.iter().map(|job| job.name.as_str()).collect(),
        })
    }

    fn job(&mut self, job: &JobStatus) -> io::Result<()> {
        self.write(&Event::Job {
            job: &job.name,
            state: job.state,
            reason: job.reason.as_deref(),
            message: job.message.as_deref(),
        })
    }

    fn log(&mut self, job: &str, step: &str, line: &[u8]) -> io::Result<()> {
        self.write(&Event::Log {
            job,
            step,
            text: lines::safe(line, false),
        })
    }

    fn notice(&mut self, text: &str) -> io::Result<()> {
        self.write(&Event::Notice { text })
    }

    fn ended(&mut self, end: &End<'_>) -> io::Result<()> {
        let status = end.run.status.as_ref();
        let duration_millis = status.and_then(|status| {
            let end = status.completion_time.as_ref()?;
            elapsed::between(status.start_time.as_ref(), Some(end), end.0)
        });
        self.write(&Event::End {
            result: end.verdict.name(),
            exit_code: end.verdict.code(),
            duration_millis,
            run: end.run,
        })?;
        self.out.flush()
    }

    fn settle(&mut self, _: Option<&PipelineRun>, _: Timestamp) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use crds::{PipelineRunSpec, PipelineRunStatus};

    use super::*;
    use crate::output::Tails;
    use crate::verdict::Verdict;

    #[test]
    fn the_format_of_every_event_is_fixed() {
        let mut out = Vec::new();
        let mut printer = JsonPrinter::new(&mut out);
        let job = JobStatus {
            name: "fell".to_owned(),
            state: JobState::Failed,
            reason: Some("StepFailed".to_owned()),
            ..JobStatus::default()
        };
        let mut run = PipelineRun::new("forest-1", PipelineRunSpec::default());
        run.status = Some(PipelineRunStatus {
            jobs: vec![job.clone()],
            ..PipelineRunStatus::default()
        });
        printer.started(&run).unwrap();
        printer.job(&job).unwrap();
        printer.log("fell", "saw", b"a \"b\" \xff").unwrap();
        printer.notice("wait").unwrap();
        let tails = Tails::new();
        printer
            .ended(&End {
                run: &run,
                verdict: Verdict::Failed,
                tails: &tails,
            })
            .unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        {"event":"start","run":"forest-1","pipeline":null,"jobs":["fell"]}
        {"event":"job","job":"fell","state":"Failed","reason":"StepFailed"}
        {"event":"log","job":"fell","step":"saw","text":"a \"b\" �"}
        {"event":"notice","text":"wait"}
        {"event":"end","result":"Failed","exitCode":1,"durationMillis":null,"run":{"apiVersion":"rustci.dev/v1alpha1","kind":"PipelineRun","metadata":{"name":"forest-1"},"spec":{"suspend":false,"cancel":false},"status":{"jobs":[{"name":"fell","state":"Failed","reason":"StepFailed","attempt":0,"fence":0}]}}}
        "#);
    }
}
