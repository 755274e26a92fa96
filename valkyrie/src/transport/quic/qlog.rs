//! What QUIC does on each connection, as qlog (draft-ietf-quic-qlog-main-schema), for people who look
//! for the reason of a slow or broken connection.
//! Must not be on unless somebody asked: it writes files from the task that drives the connection.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::{QlogConfig, QlogStream};

/// Connections that are recorded, by default.
const CONNECTIONS: u64 = 64;
/// Bytes in the file of one connection, by default.
const BYTES: u64 = 64 * 1024 * 1024;

/// Where connections are recorded, each in a file of its own; cheap to clone. Tools such as qvis read
/// them. There is no payload in them, but sizes, times and addresses are.
#[derive(Clone, Debug)]
pub struct Qlog {
    folder: PathBuf,
    connections: u64,
    bytes: u64,
    begun: Arc<AtomicU64>,
}

impl Qlog {
    /// Into this folder, which is made when it is not there: the first 64 connections, of each the
    /// first 64 MiB of records.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            connections: CONNECTIONS,
            bytes: BYTES,
            begun: Arc::default(),
        }
    }

    /// So many connections, and no later one.
    #[must_use]
    pub fn connections(mut self, connections: u64) -> Self {
        self.connections = connections;
        self
    }

    /// So many bytes of each connection; what comes later is left out.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Begins the file of a connection; none when it is not to be recorded or cannot be.
    pub(crate) fn begin(&self, side: &'static str) -> Option<QlogStream> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        if number >= self.connections {
            return None;
        }
        let path = self.folder.join(format!("{side}-{number}.sqlog"));
        let file = self.create(&path);
        let file = file.inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "a connection is not recorded");
        });
        let bounded = Bounded {
            file: BufWriter::new(file.ok()?),
            left: self.bytes,
        };
        let mut config = QlogConfig::default();
        config
            .title(Some(format!("valkyrie {side} {number}")))
            .writer(Box::new(bounded));
        config.into_stream()
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        // Those of an earlier run stay: nobody asked to lose them.
        File::create_new(path)
    }
}

/// A file that takes so many bytes and leaves out what comes later.
struct Bounded {
    file: BufWriter<File>,
    left: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(bytes.len());
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let written = self.file.write(&bytes[..bytes.len().min(room)])?;
        self.left -= written as u64;
        match self.left {
            0 => self.file.flush().map(|()| bytes.len()),
            _ => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
