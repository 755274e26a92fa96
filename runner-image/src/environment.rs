//! The environment of a job's steps.
//! Must not give a step the agent's own configuration or another step's secrets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use nix::unistd::{AccessFlags, access};

/// Variables by name.
pub type Variables = BTreeMap<OsString, OsString>;

/// What the agent's surroundings give to steps.
#[derive(Clone, Default)]
pub struct Environment {
    inherited: Variables,
    sources: Variables,
}

impl Environment {
    /// This process's own environment: inherited by steps without the agent's own variables
    /// (`RUSTCI_AGENT_*`, `RUSTCI_FROM_*`), which only serve as sources.
    pub fn of_this_process() -> Self {
        Self::new(std::env::vars_os())
    }

    /// The same for given variables.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let sources: Variables = variables.into_iter().collect();
        let mut inherited = sources.clone();
        inherited.retain(|name, _| !is_private(name));
        Self { inherited, sources }
    }

    /// Adds values that an offer may name by `from_agent_env` and that steps do not inherit.
    #[must_use]
    pub fn with_sources(mut self, sources: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.sources.extend(sources);
        self
    }

    /// What steps begin with. `HOME` becomes `home` when it is missing or not writable.
    pub fn base(&self, home: &Path) -> Variables {
        let mut base = self.inherited.clone();
        base.remove(OsStr::new(crate::process::MARK));
        let usable = |path: &OsString| access(Path::new(path), AccessFlags::W_OK).is_ok();
        if !base.get(OsStr::new("HOME")).is_some_and(usable) {
            base.insert("HOME".into(), home.into());
        }
        for name in ["CI", "RUSTCI"] {
            base.insert(name.into(), "true".into());
        }
        base
    }

    /// The value that the agent was given under this name.
    pub fn source(&self, name: &str) -> Option<&OsStr> {
        self.sources.get(OsStr::new(name)).map(OsString::as_os_str)
    }
}

fn is_private(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"RUSTCI_AGENT_") || name.starts_with(b"RUSTCI_FROM_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    #[test]
    fn the_agents_own_variables_are_sources_but_not_inherited() {
        let given = [
            ("RUSTCI_AGENT_CA", "pem"),
            ("RUSTCI_FROM_0", "s3cret"),
            ("PATH", "/bin"),
        ];
        let environment = Environment::new(variables(&given));
        let base = environment.base(Path::new("/tmp"));
        assert!(!base.keys().any(|name| is_private(name)));
        assert_eq!(base[OsStr::new("PATH")], "/bin");
        assert_eq!(base[OsStr::new("CI")], "true");
        assert_eq!(
            environment.source("RUSTCI_FROM_0"),
            Some(OsStr::new("s3cret"))
        );
        assert_eq!(environment.source("RUSTCI_FROM_1"), None);
    }

    #[test]
    fn home_is_replaced_only_when_it_cannot_be_written() {
        let good = tempfile::tempdir().unwrap();
        let fallback = Path::new("/fallback");
        let home = |value: Option<&Path>| {
            let given = value.map(|path| (OsString::from("HOME"), path.into()));
            Environment::new(given).base(fallback)[OsStr::new("HOME")].clone()
        };
        assert_eq!(home(Some(good.path())), good.path());
        assert_eq!(home(Some(Path::new("/nonexistent/dir"))), fallback);
        assert_eq!(home(None), fallback);
    }
}
