//! Where everything built or kept between runs lives, and the locks around it.
//! It must not know what is stored.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The cache folder: `$RUSTCI_CACHE`, else `$XDG_CACHE_HOME/rustci`, else `~/.cache/rustci`.
pub fn cache_dir() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    cache_dir_from(set("RUSTCI_CACHE"), set("XDG_CACHE_HOME"), set("HOME"))
}

fn cache_dir_from(own: Option<PathBuf>, xdg: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    own.or_else(|| xdg.map(|dir| dir.join("rustci")))
        .unwrap_or_else(|| home.unwrap_or_else(|| "/root".into()).join(".cache/rustci"))
}

/// A lock on a file, held until the value is dropped or the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody else holds the lock in any form.
    pub(crate) fn exclusive(path: &Path) -> Result<Lock> {
        let file = open_lock(path)?;
        file.lock()
            .with_context(|| format!("could not lock {}", path.display()))?;
        Ok(Lock { _file: file })
    }

    /// The lock alone, if nobody else holds it in any form.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Lock>> {
        let file = open_lock(path)?;
        Ok(file.try_lock().is_ok().then_some(Lock { _file: file }))
    }

    /// The lock together with others, if nobody holds it exclusively.
    pub(crate) fn try_shared(path: &Path) -> Result<Option<Lock>> {
        let file = open_lock(path)?;
        Ok(file
            .try_lock_shared()
            .is_ok()
            .then_some(Lock { _file: file }))
    }
}

fn open_lock(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("could not create {}", parent.display()))?;
    }
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("could not open the lock file {}", path.display()))
}

/// Gives `target`, made by `make` in a neighbouring folder and renamed, so a half one is never
/// taken. Safe when several processes ask at once: one makes it, the others wait.
pub(crate) fn once(target: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    let parent = target
        .parent()
        .context("a cache entry has a parent folder")?;
    let name = target
        .file_name()
        .context("a cache entry has a name")?
        .to_string_lossy();
    let _lock = Lock::exclusive(&parent.join(format!(".{name}.lock")))?;
    if target.exists() {
        return Ok(());
    }
    let partial = parent.join(format!(".{name}.partial"));
    if partial.is_dir() {
        fs::remove_dir_all(&partial)?;
    } else if partial.exists() {
        fs::remove_file(&partial)?;
    }
    make(&partial)?;
    fs::rename(&partial, target)
        .with_context(|| format!("could not put {} in place", target.display()))
}

/// First 16 hex digits of the SHA-256 of the parts, each preceded by its length.
pub(crate) fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())[..16].to_owned()
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_prefers_our_variable_then_xdg_then_home() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(
            cache_dir_from(path("/a"), path("/b"), path("/c")),
            PathBuf::from("/a")
        );
        assert_eq!(
            cache_dir_from(None, path("/b"), path("/c")),
            PathBuf::from("/b/rustci")
        );
        assert_eq!(
            cache_dir_from(None, None, path("/c")),
            PathBuf::from("/c/.cache/rustci")
        );
    }

    #[test]
    fn a_failed_making_leaves_nothing_that_looks_complete() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("thing");
        let failed = once(&target, |partial| {
            fs::create_dir(partial)?;
            anyhow::bail!("out of luck")
        });
        assert!(failed.is_err());
        assert!(!target.exists());
        once(&target, |partial| Ok(fs::create_dir(partial)?)).unwrap();
        assert!(target.is_dir());
    }

    #[test]
    fn many_at_once_make_a_thing_exactly_once() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("thing");
        let made = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    once(&target, |partial| {
                        made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        Ok(fs::write(partial, "x")?)
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn the_key_changes_when_text_moves_between_parts() {
        assert_eq!(key(&[b"ab", b"c"]), key(&[b"ab", b"c"]));
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_eq!(key(&[b"ab"]).len(), 16);
    }

    #[test]
    fn a_lock_is_had_by_many_or_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_shared(&path).unwrap();
        let second = Lock::try_shared(&path).unwrap();
        assert!(first.is_some() && second.is_some());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop((first, second));
        let alone = Lock::try_exclusive(&path).unwrap();
        assert!(alone.is_some());
        assert!(Lock::try_shared(&path).unwrap().is_none());
    }
}
