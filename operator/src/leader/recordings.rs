//! Where QUIC connections of agents are recorded: a folder for each term of leadership.
//! Must not remove anything that is not such a folder.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use valkyrie::endpoint::Qlog;

/// Form of the name of a term's folder: its start in UTC. By name is by time.
const FORM: &str = "%Y%m%d-%H%M%S";
/// Terms that are kept, the one that begins among them.
const TERMS: usize = 4;
/// Connections that are recorded in a term, and bytes of each: 1 GiB in all terms together.
const CONNECTIONS: u64 = 16;
const BYTES: u64 = 16 * 1024 * 1024;
/// Terms that may begin in one second, before something else must be wrong.
const NAMES: i64 = 8;

/// Begins the recordings of a term, and removes those of all but the newest before it.
///
/// # Errors
/// When the folder cannot be made, read or written, or an old term cannot be removed.
pub(super) fn begin(folder: &Path, now: Timestamp) -> io::Result<Qlog> {
    fs::create_dir_all(folder)?;
    let mut terms = terms(folder)?;
    terms.sort_unstable();
    let old = terms.len().saturating_sub(TERMS - 1);
    for term in &terms[..old] {
        fs::remove_dir_all(folder.join(term))?;
    }
    let mut taken = io::Error::from(ErrorKind::AlreadyExists);
    for later in 0..NAMES {
        let start = now + SignedDuration::from_secs(later);
        let term = folder.join(start.strftime(FORM).to_string());
        match fs::create_dir(&term) {
            Ok(()) => return Ok(Qlog::new(term).connections(CONNECTIONS).bytes(BYTES)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

/// Names of the terms' folders that are there.
fn terms(folder: &Path) -> io::Result<Vec<String>> {
    let mut terms = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if is_term(&name) && entry.file_type()?.is_dir() {
            terms.push(name);
        }
    }
    Ok(terms)
}

/// Whether a name has exactly the form that `begin` gives.
fn is_term(name: &str) -> bool {
    DateTime::strptime(FORM, name).is_ok_and(|start| start.strftime(FORM).to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_newest_four_terms_are_kept_and_nothing_of_others_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let others = [
            "00000000-000000",
            "20261125-09305",
            "20261125-093059.old",
            "20261125-253059",
            "20261131-093059",
            "notes",
        ];
        for other in others {
            fs::create_dir(folder.path().join(other)).unwrap();
        }
        fs::write(folder.path().join("20200101-000000"), "a file").unwrap();
        for day in 1..=6 {
            begin(folder.path(), at(&format!("2026-11-0{day}T23:05:09Z"))).unwrap();
            let term = folder.path().join(format!("2026110{day}-230509"));
            fs::write(term.join("accepted-0.sqlog"), "a record").unwrap();
        }
        let mut wanted = vec![
            "20200101-000000",
            "20261103-230509",
            "20261104-230509",
            "20261105-230509",
            "20261106-230509",
        ];
        wanted.extend(others);
        wanted.sort_unstable();
        assert_eq!(names(folder.path()), wanted);
    }

    #[test]
    fn terms_of_the_same_second_have_folders_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let start = at("2026-12-31T23:59:59Z");
        begin(folder.path(), start).unwrap();
        begin(folder.path(), start).unwrap();
        assert_eq!(names(folder.path()), ["20261231-235959", "20270101-000000"]);
    }

    #[test]
    fn a_folder_that_links_to_another_is_not_followed() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("kept"), "").unwrap();
        let link = folder.path().join("20200101-000000");
        std::os::unix::fs::symlink(elsewhere.path(), link).unwrap();
        for second in 0..6 {
            begin(folder.path(), at(&format!("2026-11-01T00:00:0{second}Z"))).unwrap();
        }
        assert_eq!(names(elsewhere.path()), ["kept"]);
        assert_eq!(names(folder.path())[0], "20200101-000000");
    }
}
