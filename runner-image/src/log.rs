//! The log of one step: masked on its way into the spool.
//! Must not send anything.

use crate::mask::{Masker, Secrets};
use crate::spool::{LogReader, LogWriter, Spool};
use crate::step::OutputSink;
use std::sync::Arc;

/// Where the output of one step goes.
pub struct StepLog {
    masker: Masker,
    writer: LogWriter,
    masked: Vec<u8>,
}

impl StepLog {
    /// Starts a log; the reader is for whoever sends it.
    pub fn new(secrets: &Secrets, spool: &Arc<Spool>) -> (Self, LogReader) {
        let (writer, reader) = spool.log();
        let log = Self {
            masker: secrets.masker(),
            writer,
            masked: Vec::new(),
        };
        (log, reader)
    }

    /// Ends the log; returns its length.
    pub fn close(mut self) -> u64 {
        self.masked.clear();
        self.masker.finish(&mut self.masked);
        self.writer.append(&self.masked);
        self.writer.close()
    }
}

impl OutputSink for StepLog {
    async fn room(&mut self) {
        self.writer.room().await;
    }

    fn write(&mut self, output: &[u8]) {
        self.masked.clear();
        self.masker.push(output, &mut self.masked);
        self.writer.append(&self.masked);
    }
}
