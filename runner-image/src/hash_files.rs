//! `hashFiles()`: one hash of the files of a job's working directory that match patterns.
//! Must not read what is outside of that directory, and must end however large it is.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use runner_messages::{EnvSource, Part, PartKind, StepSpec};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Bounds of one call: a pattern may match everything that a job has made.
const LIMITS: Limits = Limits {
    entries: 200_000,
    files: 20_000,
    bytes: 2 * 1024 * 1024 * 1024,
};
const READ_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;

/// How much one call may look at.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Names of files and directories.
    entries: usize,
    /// Files that match.
    files: usize,
    /// Bytes of those.
    bytes: u64,
}

/// Why there is no hash. The text is for users.
#[derive(Debug, Error)]
pub(crate) enum HashError {
    /// A pattern cannot be read.
    #[error("the pattern `{pattern}` is wrong: {reason}")]
    Pattern {
        /// As given.
        pattern: String,
        /// In words.
        reason: String,
    },
    /// The directory holds too much.
    #[error(
        "there are more than {0} files and directories to look at: begin the pattern with a \
             directory, or leave out `**`"
    )]
    Entries(usize),
    /// Too many match.
    #[error("more than {0} files match: write a pattern that matches fewer")]
    Files(usize),
    /// They are too large.
    #[error("the files that match have more than {0} bytes: write a pattern that matches fewer")]
    Bytes(u64),
    /// A file or directory cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Relative to the working directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The step with every variable put together that comes in parts. The error names the variable.
pub(crate) async fn resolve<'s>(
    step: &'s StepSpec,
    workdir: &Path,
) -> Result<Cow<'s, StepSpec>, String> {
    let in_parts = |source: &Option<EnvSource>| matches!(source, Some(EnvSource::Parts(_)));
    if !step.env.iter().any(|entry| in_parts(&entry.source)) {
        return Ok(Cow::Borrowed(step));
    }
    let (mut step, workdir) = (step.clone(), workdir.to_owned());
    let resolved = tokio::task::spawn_blocking(move || {
        for entry in &mut step.env {
            if let Some(EnvSource::Parts(value)) = &entry.source {
                let text = text(&value.parts, &workdir);
                let text =
                    text.map_err(|error| format!("variable `{}`: hashFiles: {error}", entry.name))?;
                entry.source = Some(EnvSource::Value(text));
            }
        }
        Ok(Cow::Owned(step))
    });
    resolved
        .await
        .unwrap_or_else(|error| Err(format!("hashFiles: {error}")))
}

fn text(parts: &[Part], workdir: &Path) -> Result<String, HashError> {
    let mut text = String::new();
    for part in parts {
        match &part.kind {
            Some(PartKind::Text(fixed)) => text.push_str(fixed),
            Some(PartKind::HashFiles(files)) => {
                text.push_str(&hash(workdir, &files.patterns, LIMITS)?);
            }
            None => {}
        }
    }
    Ok(text)
}

/// SHA-256 over the paths, in the order of their bytes, and the contents: each path with its
/// length before it, then the SHA-256 of its file. Empty text when nothing matches.
fn hash(workdir: &Path, patterns: &[String], limits: Limits) -> Result<String, HashError> {
    let patterns = Patterns::new(patterns)?;
    let mut paths = files(workdir, &patterns, limits)?;
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    if paths.is_empty() {
        return Ok(String::new());
    }
    let mut all = Sha256::new();
    let mut left = limits.bytes;
    for path in &paths {
        let name = path.as_os_str().as_bytes();
        all.update((name.len() as u64).to_be_bytes());
        all.update(name);
        all.update(contents(workdir, path, &mut left, limits)?);
    }
    let digest = all.finalize();
    Ok(digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn contents(
    workdir: &Path,
    path: &Path,
    left: &mut u64,
    limits: Limits,
) -> Result<impl AsRef<[u8]>, HashError> {
    let unreadable = |source| HashError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(workdir.join(path)).map_err(unreadable)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut hash = Sha256::new();
    loop {
        let length = file.read(&mut buffer).map_err(unreadable)?;
        if length == 0 {
            return Ok(hash.finalize());
        }
        *left = left
            .checked_sub(length as u64)
            .ok_or(HashError::Bytes(limits.bytes))?;
        hash.update(&buffer[..length]);
    }
}

/// The files that match, relative to the directory. Links to directories are not followed, and
/// links to files only within the directory.
fn files(workdir: &Path, patterns: &Patterns, limits: Limits) -> Result<Vec<PathBuf>, HashError> {
    let unreadable = |path: &Path, source| HashError::Read {
        path: path.to_owned(),
        source,
    };
    let root = fs::canonicalize(workdir).map_err(|source| unreadable(workdir, source))?;
    let mut found = Vec::new();
    let mut seen = 0;
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(root.join(&directory));
        for entry in entries.map_err(|source| unreadable(&directory, source))? {
            let entry = entry.map_err(|source| unreadable(&directory, source))?;
            let path = directory.join(entry.file_name());
            seen += 1;
            if seen > limits.entries {
                return Err(HashError::Entries(limits.entries));
            }
            let kind = entry
                .file_type()
                .map_err(|source| unreadable(&path, source))?;
            if kind.is_dir() && patterns.may_match_below(&path) {
                open.push(path);
                continue;
            }
            let is_file = kind.is_file() || (kind.is_symlink() && is_file_within(&root, &path));
            if !is_file || !patterns.matches(&path) {
                continue;
            }
            if found.len() == limits.files {
                return Err(HashError::Files(limits.files));
            }
            found.push(path);
        }
    }
    Ok(found)
}

fn is_file_within(root: &Path, path: &Path) -> bool {
    fs::canonicalize(root.join(path)).is_ok_and(|to| to.starts_with(root) && to.is_file())
}

/// Patterns in their order: the last that matches a path says whether it counts.
struct Patterns {
    all: Vec<(bool, GlobMatcher)>,
    /// Names that the longest path has that can match; none without a bound.
    depth: Option<usize>,
}

impl Patterns {
    fn new(texts: &[String]) -> Result<Self, HashError> {
        let pattern = |text: &String| {
            let (counts, glob) = match text.strip_prefix('!') {
                Some(rest) => (false, rest),
                None => (true, text.as_str()),
            };
            let glob = glob.strip_prefix("./").unwrap_or(glob);
            let built = GlobBuilder::new(glob).literal_separator(true).build();
            let built = built.map_err(|error| HashError::Pattern {
                pattern: text.clone(),
                reason: error.kind().to_string(),
            })?;
            Ok((counts, built.compile_matcher()))
        };
        let counting = texts.iter().filter(|text| !text.starts_with('!'));
        let depth = counting.map(|text| match text.contains("**") || text.contains('{') {
            true => None,
            false => Some(text.trim_start_matches("./").split('/').count()),
        });
        Ok(Self {
            all: texts.iter().map(pattern).collect::<Result<_, _>>()?,
            depth: depth
                .collect::<Option<Vec<_>>>()
                .and_then(|all| all.into_iter().max()),
        })
    }

    fn matches(&self, path: &Path) -> bool {
        let mut last_first = self.all.iter().rev();
        let last = last_first.find(|(_, glob)| glob.is_match(path));
        last.is_some_and(|(counts, _)| *counts)
    }

    fn may_match_below(&self, directory: &Path) -> bool {
        let names = directory.components().count();
        self.depth.is_none_or(|depth| names < depth)
    }
}
