//! The record of the machine's cluster, written after each step so that a killed run can be
//! cleaned up by the next one.
//! It must not decide anything.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process::{PidRecord, boot_id};

/// The folders and files of the machine's cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout(PathBuf);

impl Layout {
    /// The one cluster of this machine and user.
    pub(crate) fn machine() -> Layout {
        Layout(crate::cache::cache_dir().join("cluster"))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Text form of a path below the folder, for flags and configuration files.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.0.join("logs").join(format!("{process}.log"))
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// Held while the cluster is being started or stopped.
    pub(crate) fn change_lock(&self) -> PathBuf {
        self.path("change.lock")
    }

    /// Held shared by those who use the cluster, exclusively by those who must be alone.
    pub(crate) fn use_lock(&self) -> PathBuf {
        self.path("use.lock")
    }

    fn state_file(&self) -> PathBuf {
        self.path("state.json")
    }
}

/// What is running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The boot in which the pids were recorded.
    boot_id: String,
    /// True when the last user shall take the cluster down.
    pub(crate) scoped: bool,
    /// True when `kind` made it.
    pub(crate) kind: bool,
    /// True once everything answered.
    pub(crate) ready: bool,
    /// In the order of their start.
    pub(crate) processes: Vec<PidRecord>,
}

impl State {
    pub(crate) fn new(scoped: bool) -> State {
        State {
            boot_id: boot_id(),
            scoped,
            ..State::default()
        }
    }

    /// The recorded state; `None` when nothing is recorded or the machine was restarted since.
    pub(crate) fn load(layout: &Layout) -> Result<Option<State>> {
        let path = layout.state_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(format!("could not read {}", path.display())),
        };
        let state: State = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; remove it", path.display()))?;
        Ok((state.boot_id == boot_id()).then_some(state))
    }

    /// Written beside and renamed, so that a reader never sees a half file.
    pub(crate) fn save(&self, layout: &Layout) -> Result<()> {
        let path = layout.state_file();
        let partial = path.with_extension("json.partial");
        fs::create_dir_all(layout.dir())?;
        fs::write(&partial, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&partial, &path))
            .with_context(|| format!("could not write {}", path.display()))
    }

    pub(crate) fn remove(layout: &Layout) -> Result<()> {
        match fs::remove_file(layout.state_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_state_is_loaded_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout(dir.path().join("deep/cluster"));
        assert_eq!(State::load(&layout).unwrap(), None);
        let mut state = State::new(true);
        let own = i32::try_from(std::process::id()).unwrap();
        state.processes.push(PidRecord::of("etcd", own).unwrap());
        state.save(&layout).unwrap();
        let loaded = State::load(&layout).unwrap().unwrap();
        assert_eq!(loaded, state);
        assert!(loaded.processes[0].runs());
    }

    #[test]
    fn a_state_from_before_a_restart_of_the_machine_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout(dir.path().to_owned());
        State {
            boot_id: "another".into(),
            ..State::new(false)
        }
        .save(&layout)
        .unwrap();
        assert_eq!(State::load(&layout).unwrap(), None);
    }

    #[test]
    fn a_damaged_state_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout(dir.path().to_owned());
        fs::write(layout.state_file(), "{").unwrap();
        let error = State::load(&layout).unwrap_err().to_string();
        assert!(error.contains("state.json"), "{error}");
    }

    #[test]
    fn removing_a_state_twice_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout(dir.path().to_owned());
        State::new(false).save(&layout).unwrap();
        State::remove(&layout).unwrap();
        State::remove(&layout).unwrap();
        assert_eq!(State::load(&layout).unwrap(), None);
    }
}
