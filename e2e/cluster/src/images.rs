//! Container images made on this machine, as docker-archive tars.
//! It must not need a registry or an engine.
use anyhow::Result;
use std::path::{Path, PathBuf};

/// The image every pod's sandbox runs.
pub const PAUSE: &str = "localhost/pause:1";
/// busybox with a shell and user `ci` (1000).
pub const BUSYBOX: &str = "localhost/busybox:1";
/// Debian with gcc, libc6-dev, make, git and ca-certificates.
pub const BUILD: &str = "localhost/build:1";

/// A file to put into an image.
#[derive(Clone, Debug)]
pub struct ExtraFile {
    /// Absolute path in the image.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Tar of an image with one static binary at `/NAME`, run by user 65532.
pub fn image_from_binary(
    _name: &str,
    _binary: &Path,
    _entrypoint: &[&str],
    _extra: &[ExtraFile],
) -> Result<PathBuf> {
    todo!()
}
/// Tar of [`PAUSE`].
pub fn pause() -> Result<PathBuf> {
    todo!()
}
/// Tar of [`BUSYBOX`].
pub fn busybox() -> Result<PathBuf> {
    todo!()
}
/// Tar of [`BUILD`]; made by debootstrap, about two minutes the first time.
pub fn build() -> Result<PathBuf> {
    todo!()
}
