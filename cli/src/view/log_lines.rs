//! Turns pieces of logs into printed lines, and remembers the last ones.
//! Must not hold more of a log than its last lines.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::tail::TailKeeper;
use super::{Piece, StepKey};
use crate::output::lines::LineSplitter;
use crate::output::{Printer, Tails};

/// Log lines on their way to a printer.
pub(super) struct LogLines {
    printer: Box<dyn Printer>,
    /// Lines that are being put together.
    splitters: BTreeMap<StepKey, LineSplitter>,
    tails: TailKeeper,
}

impl LogLines {
    /// Lines for a printer.
    pub(super) fn new(printer: Box<dyn Printer>) -> Self {
        Self {
            printer,
            splitters: BTreeMap::new(),
            tails: TailKeeper::default(),
        }
    }

    /// The printer.
    pub(super) fn printer(&mut self) -> &mut dyn Printer {
        self.printer.as_mut()
    }

    /// The last lines so far.
    pub(super) fn tails(&mut self) -> &mut Tails {
        self.tails.tails()
    }

    /// Prints the lines that a piece completes.
    pub(super) fn print(&mut self, piece: Piece) -> io::Result<()> {
        match piece {
            Piece::Bytes(_, bytes) if !self.printer.wants_lines() => self.printer.bytes(&bytes),
            Piece::Bytes(key, bytes) => {
                let splitter = self.splitters.entry(key.clone()).or_default();
                let (printer, tails) = (&mut self.printer, &mut self.tails);
                let mut result = Ok(());
                splitter.push(&bytes, |line| {
                    if result.is_ok() {
                        tails.add(&key, line);
                        result = printer.log(&key.job, &key.step, line);
                    }
                });
                result
            }
            Piece::StepEnd(key) => {
                let last = self
                    .splitters
                    .remove(&key)
                    .and_then(|mut splitter| splitter.finish());
                let Some(line) = last else { return Ok(()) };
                self.tails.add(&key, &line);
                self.printer.log(&key.job, &key.step, &line)
            }
            Piece::Trouble(text) => self.printer.notice(&text),
            Piece::JobEnd(_) => Ok(()),
        }
    }
}

/// Prints pieces of logs as they come, without any states.
pub async fn print_pieces(
    printer: Box<dyn Printer>,
    mut pieces: mpsc::Receiver<Piece>,
) -> io::Result<()> {
    let mut lines = LogLines::new(printer);
    while let Some(piece) = pieces.recv().await {
        lines.print(piece)?;
        lines.printer.settle(None, Timestamp::now())?;
    }
    Ok(())
}
