//! Where everything built or kept between runs lives, and the locks around it.
//! It must not know what is stored.
use std::path::PathBuf;

/// The cache folder: `$RUSTCI_CACHE`, else `$XDG_CACHE_HOME/rustci`, else `~/.cache/rustci`.
pub fn cache_dir() -> PathBuf {
    todo!()
}
