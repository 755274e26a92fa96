//! The folder `.rustci`: one folder for each run, the oldest taken away.
//! Must not touch a run that still goes on.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::failure::Failure;

/// Where local runs are kept, below the current directory.
const FOLDER: &str = ".rustci";
/// Runs that are kept.
const KEPT_RUNS: usize = 20;

/// Where the logs of local runs are, below [`FOLDER`]: as `storage` lays them out.
const LOGS: &str = "logs/local";

/// The run as it ended, below its folder.
pub(super) const RUN_FILE: &str = "run.yaml";
/// Where the steps of a run work, below its folder.
const WORK: &str = "work";
/// Where the agents of a run keep their files, below its folder.
const AGENT: &str = "agent";

/// The folder of a run below `base`, whether it is there or not; none for what is no name.
pub(super) fn path_of(base: &Path, run: &str) -> Option<PathBuf> {
    // A name with a slash would leave the folder.
    let is_name = Path::new(run).components().count() == 1 && !run.starts_with('.');
    is_name.then(|| base.join(FOLDER).join("runs").join(run))
}

/// The folder of one run. Its lock is held until this is dropped.
pub(super) struct RunFolder {
    root: PathBuf,
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes the folder of a new run below `base`, and takes old runs away.
    pub(super) fn create(base: &Path, run: &str) -> Result<Self, Failure> {
        let folder = base.join(FOLDER);
        let made = make(&folder, run);
        let made = made.map_err(|error| {
            Failure::infrastructure(format!(
                "cannot write to {}: {error}; run in a directory that you may write to",
                folder.display()
            ))
        })?;
        prune(&folder, KEPT_RUNS);
        Ok(made)
    }

    /// The folder of all runs, the root of their logs.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// An own, empty directory for the steps of a job's attempt.
    pub(super) fn workdir(&self, attempt: &str) -> io::Result<PathBuf> {
        self.directory(WORK, attempt)
    }

    /// An own, empty directory for the files of an attempt's agent.
    pub(super) fn state_dir(&self, attempt: &str) -> io::Result<PathBuf> {
        self.directory(AGENT, attempt)
    }

    fn directory(&self, purpose: &str, attempt: &str) -> io::Result<PathBuf> {
        let path = self.path.join(purpose).join(attempt);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Takes away what only running agents need: scripts, and logs on their way.
    pub(super) fn clean(&self) {
        if let Err(error) = remove(&self.path.join(AGENT)) {
            tracing::warn!(%error, "the agents' files stay");
        }
    }

    /// Writes a file whole or not at all.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let unfinished = self.path.join(format!("{name}.new"));
        fs::write(&unfinished, text)?;
        fs::rename(unfinished, self.path.join(name))
    }
}

fn make(folder: &Path, run: &str) -> io::Result<RunFolder> {
    let path = folder.join("runs").join(run);
    fs::create_dir_all(&path)?;
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        fs::write(ignore, "*\n")?;
    }
    let (root, path) = (folder.canonicalize()?, path.canonicalize()?);
    let lock = File::create(path.join("lock"))?;
    lock.lock()?;
    Ok(RunFolder {
        root,
        path,
        _lock: lock,
    })
}

/// Takes the oldest runs away that nobody runs. What can't be removed stays, for the next time.
fn prune(folder: &Path, keep: usize) {
    let Ok(entries) = fs::read_dir(folder.join("runs")) else {
        return;
    };
    let modified = |path: &Path| fs::metadata(path.join("lock")).and_then(|data| data.modified());
    let mut found: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .map(|path| (modified(&path).unwrap_or(SystemTime::UNIX_EPOCH), path))
        .collect();
    found.sort();
    let surplus = found.len().saturating_sub(keep);
    for (_, path) in found
        .into_iter()
        .filter(|(_, path)| is_idle(path))
        .take(surplus)
    {
        let logs = path.file_name().map(|run| folder.join(LOGS).join(run));
        let removed = logs
            .map_or(Ok(()), |logs| remove(&logs))
            .and_then(|()| remove(&path));
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "an old run stays");
        }
    }
}

/// True when no process holds the run's lock.
pub(super) fn is_idle(run: &Path) -> bool {
    match File::open(run.join("lock")) {
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Removes a tree, also where tools have made directories read-only.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        Ok(()) => Ok(()),
    }
}

fn make_writable(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(base: &Path) -> Vec<String> {
        let entries = fs::read_dir(base.join(FOLDER).join("runs")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_runs_go_and_a_run_that_goes_on_stays() {
        let base = tempfile::tempdir().unwrap();
        let running = RunFolder::create(base.path(), "run-00").unwrap();
        let count = KEPT_RUNS + 5;
        for number in 0..count {
            let name = format!("run-{number:02}");
            if number > 0 {
                drop(RunFolder::create(base.path(), &name).unwrap());
            }
            let folder = base.path().join(FOLDER);
            fs::create_dir_all(folder.join(LOGS).join(&name)).unwrap();
            let age = std::time::Duration::from_secs((count - number) as u64);
            let lock = File::options()
                .write(true)
                .open(folder.join("runs").join(name).join("lock"));
            lock.unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        drop(RunFolder::create(base.path(), "run-99").unwrap());
        let left = runs(base.path());
        assert_eq!(left.len(), KEPT_RUNS, "{left:?}");
        assert!(left.contains(&"run-00".to_owned()), "{left:?}");
        assert!(!left.contains(&"run-01".to_owned()), "{left:?}");
        assert!(!base.path().join(FOLDER).join(LOGS).join("run-01").exists());
        drop(running);
    }

    #[test]
    fn a_read_only_tree_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let tree = base.path().join("tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        fs::write(tree.join("inner/file"), "x").unwrap();
        fs::set_permissions(tree.join("inner"), fs::Permissions::from_mode(0o500)).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn the_folder_hides_itself_from_git() {
        let base = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(base.path(), "run-1").unwrap();
        folder.write("run.yaml", "kind: PipelineRun\n").unwrap();
        assert_eq!(
            fs::read_to_string(base.path().join(".rustci/.gitignore")).unwrap(),
            "*\n"
        );
        assert!(folder.root().join("runs/run-1/run.yaml").exists());
    }
}
