//! Prints nothing but log lines on standard output, for `rustci logs`.
//! Must not print states: what reads the logs must get logs only.

use std::io::{self, Write};

use crds::{JobStatus, PipelineRun};
use jiff::Timestamp;

use super::{End, Printer, lines};

/// The printer of logs.
pub struct LogPrinter<W> {
    out: W,
    /// Where each line comes from stands before it.
    prefixed: bool,
    colors: bool,
}

impl<W: Write + Send> LogPrinter<W> {
    /// A printer that writes to `out`.
    pub fn new(out: W, prefixed: bool, colors: bool) -> Self {
        Self {
            out,
            prefixed,
            colors,
        }
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
        match self.prefixed {
            true => writeln!(self.out, "[{job}/{step}] {text}"),
            false => writeln!(self.out, "{text}"),
        }
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
        LogPrinter::new(&mut out, true, false)
            .log("fell", "saw", b"brr\x07")
            .unwrap();
        LogPrinter::new(&mut out, false, false)
            .log("fell", "saw", b"brr")
            .unwrap();
        assert_eq!(out, b"[fell/saw] brr\nbrr\n");
    }
}
