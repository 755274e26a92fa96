//! Prints nothing but log lines on standard output, for `rustci logs`.
//! Must not print states: what reads the logs must get logs only.

use std::io::{self, Write};

use crds::{JobStatus, PipelineRun};
use jiff::Timestamp;

use super::{End, Printer, lines};

/// How logs are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    /// Safe lines with job and step before them.
    Prefixed,
    /// Safe lines.
    Lines,
    /// The bytes as they were written.
    Raw,
}

/// The printer of logs.
pub struct LogPrinter<W> {
    out: W,
    style: Style,
    colors: bool,
}

impl<W: Write + Send> LogPrinter<W> {
    /// A printer that writes to `out`.
    pub fn new(out: W, style: Style, colors: bool) -> Self {
        Self { out, style, colors }
    }
}

impl<W: Write + Send> Printer for LogPrinter<W> {
    fn started(&mut self, _: &PipelineRun) -> io::Result<()> {
        Ok(())
    }

    fn job(&mut self, _: &JobStatus) -> io::Result<()> {
        Ok(())
    }

    fn log(&mut self, job: &str, step: &str, line: &[u8]) -> io::Result<()> {
        let text = lines::safe(line, self.colors);
        match self.style {
            Style::Prefixed => writeln!(self.out, "[{job}/{step}] {text}"),
            Style::Lines | Style::Raw => writeln!(self.out, "{text}"),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    fn wants_lines(&self) -> bool {
        self.style != Style::Raw
    }

    fn notice(&mut self, text: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{}", lines::safe(text.as_bytes(), false))
    }

    fn ended(&mut self, _: &End<'_>) -> io::Result<()> {
        self.out.flush()
    }

    fn settle(&mut self, _: Option<&PipelineRun>, _: Timestamp) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_their_job_and_step_unless_only_one_is_shown() {
        let mut out = Vec::new();
        let mut prefixed = LogPrinter::new(&mut out, Style::Prefixed, false);
        prefixed.log("fell", "saw", b"brr\x07").unwrap();
        LogPrinter::new(&mut out, Style::Lines, false)
            .log("fell", "saw", b"brr")
            .unwrap();
        assert_eq!(out, b"[fell/saw] brr\nbrr\n");
    }
}
