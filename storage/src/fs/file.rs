//! The system calls, in the order that survives a crash.
//! Must run on the blocking pool only.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};

/// Creates a folder and what is missing above it; each new name is durable.
pub(super) fn create_dirs(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().ok_or(Error::from(ErrorKind::NotFound))?;
    if !parent.as_os_str().is_empty() {
        create_dirs(parent)?;
    }
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_dir(parent),
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)?.sync_all()
}

/// Length of a log after a crash or a first look, made durable before it is told.
pub(super) fn recover(log: &Path) -> Result<u64> {
    match OpenOptions::new().write(true).open(log) {
        Ok(file) => {
            file.sync_all()?;
            Ok(file.metadata()?.len())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Writes the pieces at the offset and returns when they are durable.
pub(super) fn write_at(log: &Path, mut offset: u64, pieces: &[Bytes]) -> Result<()> {
    let file = open_for_write(log)?;
    for piece in pieces {
        file.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    file.sync_data()
}

fn open_for_write(log: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    match options.write(true).open(log) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let dir = log.parent().ok_or(Error::from(ErrorKind::NotFound))?;
            create_dirs(dir)?;
            let file = options.create(true).truncate(false).open(log)?;
            sync_dir(dir)?;
            Ok(file)
        }
        opened => opened,
    }
}

/// Cuts off what a failed write may have left.
pub(super) fn truncate(log: &Path, end: u64) -> Result<()> {
    match OpenOptions::new().write(true).open(log) {
        Ok(file) => {
            file.set_len(end)?;
            file.sync_all()
        }
        Err(error) if error.kind() == ErrorKind::NotFound && end == 0 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Exactly so many bytes from the offset, or what is there.
pub(super) fn read_at(log: &Path, mut offset: u64, length: usize) -> Result<Bytes> {
    let file = File::open(log)?;
    let mut bytes = BytesMut::zeroed(length);
    let mut filled = 0;
    while filled < length {
        let count = file.read_at(&mut bytes[filled..], offset)?;
        if count == 0 {
            break;
        }
        filled += count;
        offset += count as u64;
    }
    bytes.truncate(filled);
    Ok(bytes.freeze())
}

/// BLAKE3 of the first bytes of a log.
pub(super) fn digest(log: &Path, end: u64) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    if end > 0 {
        hasher.update_reader(File::open(log)?.take(end))?;
    }
    Ok(hasher.finalize())
}

/// Writes the mark of a closed log; it is there as a whole or not at all.
pub(super) fn write_marker(marker: &Path, end: u64, digest: &blake3::Hash) -> Result<()> {
    let dir = marker.parent().ok_or(Error::from(ErrorKind::NotFound))?;
    create_dirs(dir)?;
    let draft = marker.with_extension("closing");
    let mut file = File::create(&draft)?;
    writeln!(file, "{end} {}", digest.to_hex())?;
    file.sync_all()?;
    std::fs::rename(&draft, marker)?;
    sync_dir(dir)
}

/// Length and digest of a closed log; `None` for an open one.
pub(super) fn read_marker(marker: &Path) -> Result<Option<(u64, blake3::Hash)>> {
    let text = match std::fs::read_to_string(marker) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let parsed = text
        .trim_end()
        .split_once(' ')
        .and_then(|(end, digest)| Some((end.parse().ok()?, blake3::Hash::from_hex(digest).ok()?)));
    let broken = || {
        Error::new(
            ErrorKind::InvalidData,
            "the mark of the closed log is broken",
        )
    };
    parsed.map(Some).ok_or_else(broken)
}

/// Moves a folder away in one step, then deletes it.
pub(super) fn delete_dir(from: &Path, trash: &Path, to: &Path) -> Result<()> {
    create_dirs(trash)?;
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        moved => moved?,
    }
    if let Some(parent) = from.parent() {
        sync_dir(parent)?;
    }
    std::fs::remove_dir_all(to)
}

/// Names in a folder; none when it is not there.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let read = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    read.filter_map(|item| {
        item.map(|item| item.file_name().into_string().ok())
            .transpose()
    })
    .collect()
}
