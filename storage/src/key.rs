//! The name of a log, and which names are safe as file names.
//! Must not touch the file system.

use crate::LogError;

/// Longest part of a name in bytes: with attempt and extension it stays under 255.
const MAX_PART: usize = 200;

/// One log: the output of one step of one attempt of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogKey {
    /// Namespace of the run.
    pub namespace: String,
    /// UID of the run.
    pub run_uid: String,
    /// Name of the job.
    pub job: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Index of the step.
    pub step: u32,
}

impl LogKey {
    /// Checks that every part is a plain name.
    ///
    /// # Errors
    /// `Name` for anything but letters, digits, `-`, `_` and inner dots.
    pub fn check(&self) -> Result<(), LogError> {
        check_name(&self.namespace)?;
        check_name(&self.run_uid)?;
        check_name(&self.job)
    }
}

impl std::fmt::Display for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            namespace,
            run_uid,
            job,
            attempt,
            step,
        } = self;
        write!(f, "{namespace}/{run_uid}/{job}.{attempt}/{step}")
    }
}

/// Accepts a name that cannot leave its folder on any file system.
pub(crate) fn check_name(name: &str) -> Result<(), LogError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let bounded = !name.is_empty() && name.len() <= MAX_PART;
    if bounded && name.bytes().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    Err(LogError::Name(name.chars().take(80).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        let long = "a".repeat(MAX_PART + 1);
        for name in [
            "", ".", "..", "../x", "a/b", "a\\b", "a\0b", ".hidden", "ä", &long,
        ] {
            assert!(
                matches!(check_name(name), Err(LogError::Name(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn kubernetes_names_and_uids_are_accepted() {
        for name in [
            "team-a",
            "0b5c9c62-3f5a-4a7e-9d5e-0d6f8b1c2a3e",
            "build.x86_64",
        ] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
