//! Reads what a step wrote to the file named in `$RUSTCI_OUTPUT`.
//! Must not decide what a bad file means for the job, and must not follow what a step left there
//! instead of a plain file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use thiserror::Error;

/// Bound of all names (of steps and outputs) and values of a job together, in bytes.
pub const MAX_BYTES: usize = runner_messages::MAX_OUTPUT_BYTES;

/// A file longer than this is refused unread: delimiters and blank lines may take some room
/// beside [`MAX_BYTES`], not more.
const MAX_FILE: u64 = 4 * MAX_BYTES as u64;

/// One output of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The name, `[A-Za-z_][A-Za-z0-9_-]*`.
    pub name: String,
    /// The value, without the line end that the file needs.
    pub value: String,
}

/// Why the outputs of a step are not usable. The text names step and line.
#[derive(Debug, Error)]
pub enum OutputError {
    /// A line is neither `name=value` nor `name<<DELIMITER`.
    #[error("outputs of step `{step}`, line {line}: {problem}")]
    Line {
        /// The step's name.
        step: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// The job's outputs are larger than [`MAX_BYTES`] in all.
    #[error(
        "outputs of step `{step}`: the job's outputs take more than 32 KiB in all; \
         put large data into files"
    )]
    TooLarge {
        /// The step that went over the bound.
        step: String,
    },
    /// The file is not readable any more.
    #[error("outputs of step `{step}`: the file named in $RUSTCI_OUTPUT {problem}")]
    Unreadable {
        /// The step's name.
        step: String,
        /// What is wrong with the file.
        problem: String,
    },
}

/// Reads the outputs of `step` from `path`; a missing file means none. `used` is what earlier
/// steps of the job already took of [`MAX_BYTES`].
pub fn read(step: &str, path: &Path, used: usize) -> Result<Vec<Output>, OutputError> {
    let unreadable = |problem: String| OutputError::Unreadable {
        step: step.to_owned(),
        problem,
    };
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(format!("cannot be opened: {error}"))),
    };
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Err(unreadable("was replaced by something else".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    let too_large = || OutputError::TooLarge {
        step: step.to_owned(),
    };
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_large());
    }
    let outputs = parse(step, &bytes)?;
    if used + size(step, &outputs) > MAX_BYTES {
        return Err(too_large());
    }
    Ok(outputs)
}

/// What the outputs of `step` take of [`MAX_BYTES`]; the step's name counts with each.
pub fn size(step: &str, outputs: &[Output]) -> usize {
    let each = |output: &Output| step.len() + output.name.len() + output.value.len();
    outputs.iter().map(each).sum()
}

/// Neither follows a link nor waits for the writer of a named pipe.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)
}

/// Parses the content of an output file. A name given twice keeps its last value.
pub fn parse(step: &str, bytes: &[u8]) -> Result<Vec<Output>, OutputError> {
    let mut outputs: Vec<Output> = Vec::new();
    let mut lines = bytes.split(|&byte| byte == b'\n').enumerate();
    while let Some((at, line)) = lines.next() {
        let error = |problem: String| OutputError::Line {
            step: step.to_owned(),
            line: at + 1,
            problem,
        };
        let line = text(line).map_err(error)?;
        if line.trim().is_empty() {
            continue;
        }
        let (name, value) = match entry(line).map_err(error)? {
            Entry::Inline { name, value } => (name, value.to_owned()),
            Entry::Heredoc { name, delimiter } => {
                let mut value: Vec<&str> = Vec::new();
                loop {
                    let Some((at, line)) = lines.next() else {
                        return Err(error(format!("`{name}` has no closing line `{delimiter}`")));
                    };
                    let line = text(line).map_err(|problem| OutputError::Line {
                        step: step.to_owned(),
                        line: at + 1,
                        problem,
                    })?;
                    if line == delimiter {
                        break;
                    }
                    value.push(line);
                }
                (name, value.join("\n"))
            }
        };
        check_name(name).map_err(error)?;
        outputs.retain(|output| output.name != name);
        outputs.push(Output {
            name: name.to_owned(),
            value,
        });
    }
    Ok(outputs)
}

enum Entry<'a> {
    Inline { name: &'a str, value: &'a str },
    Heredoc { name: &'a str, delimiter: &'a str },
}

/// Whichever of `=` and `<<` stands first decides the form, so values may hold both.
fn entry(line: &str) -> Result<Entry<'_>, String> {
    let inline = line.split_once('=');
    let heredoc = line.split_once("<<");
    match (inline, heredoc) {
        (Some((name, _)), Some((other, delimiter))) if other.len() < name.len() => {
            heredoc_entry(other, delimiter)
        }
        (Some((name, value)), _) => Ok(Entry::Inline { name, value }),
        (None, Some((name, delimiter))) => heredoc_entry(name, delimiter),
        (None, None) => Err("expected `name=value` or `name<<DELIMITER`".to_owned()),
    }
}

fn heredoc_entry<'a>(name: &'a str, delimiter: &'a str) -> Result<Entry<'a>, String> {
    if delimiter.trim().is_empty() {
        return Err(format!(
            "`{name}<<` needs a delimiter, such as `{name}<<EOF`"
        ));
    }
    Ok(Entry::Heredoc { name, delimiter })
}

fn text(line: &[u8]) -> Result<&str, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    std::str::from_utf8(line).map_err(|_| "the line is not UTF-8 text".to_owned())
}

fn check_name(name: &str) -> Result<(), String> {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let valid = name.bytes().next().is_some_and(letter)
        && name
            .bytes()
            .all(|byte| letter(byte) || byte.is_ascii_digit() || byte == b'-');
    if valid {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not a valid name; use letters, digits, `_` and `-`, not beginning with a digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let outputs = parse("unit", text.as_bytes()).unwrap();
        outputs
            .into_iter()
            .map(|output| (output.name, output.value))
            .collect()
    }

    fn one(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    fn problem(bytes: &[u8]) -> String {
        parse("unit", bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_line_gives_a_name_and_a_value() {
        assert_eq!(pairs("version=1.2=3<<4 \n\n"), one("version", "1.2=3<<4 "));
        assert_eq!(pairs("empty="), one("empty", ""));
        assert_eq!(pairs(""), vec![]);
    }

    #[test]
    fn a_heredoc_keeps_its_lines() {
        assert_eq!(
            pairs("notes<<EOF\na=b\n\n c\nEOF\n"),
            one("notes", "a=b\n\n c")
        );
        assert_eq!(pairs("notes<<EOF\nEOF\n"), one("notes", ""));
        assert_eq!(pairs("notes<<A=B\nx\nA=B\n"), one("notes", "x"));
    }

    #[test]
    fn the_last_value_of_a_name_wins() {
        assert_eq!(pairs("a=1\na=2\n"), one("a", "2"));
    }

    #[test]
    fn mistakes_name_the_step_and_the_line() {
        assert_eq!(
            problem(b"a=1\nhello\n"),
            "outputs of step `unit`, line 2: expected `name=value` or `name<<DELIMITER`"
        );
        assert_eq!(
            problem(b"\n\nnotes<<EOF\na\n"),
            "outputs of step `unit`, line 3: `notes` has no closing line `EOF`"
        );
        assert!(problem(b"1a=2").contains("line 1: `1a` is not a valid name"));
        assert!(problem(b"a b=2").contains("not a valid name"));
        assert!(problem(b"a<<").contains("needs a delimiter"));
        assert!(problem(b"x<<E\n\xff\nE").contains("line 2: the line is not UTF-8"));
    }

    #[test]
    fn the_bound_counts_all_steps_of_the_job() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        std::fs::write(&path, format!("a={}", "x".repeat(MAX_BYTES - 5))).unwrap();
        assert_eq!(size("unit", &read("unit", &path, 0).unwrap()), MAX_BYTES);
        let error = read("unit", &path, 1).unwrap_err();
        assert!(matches!(error, OutputError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_file_that_cannot_fit_is_refused_without_reading_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read("unit", &path, 0).unwrap_err();
        assert!(matches!(error, OutputError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_missing_file_means_no_outputs_and_a_pipe_in_its_place_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        assert_eq!(read("unit", &path, 0).unwrap(), vec![]);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = read("unit", &path, 0).unwrap_err();
        assert!(matches!(error, OutputError::Unreadable { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse("unit", &bytes);
        }

        #[test]
        fn any_text_survives_a_heredoc(value in "[a-z=<>\n ]{0,60}") {
            let file = format!("v<<END_OF_VALUE\n{value}\nEND_OF_VALUE\n");
            prop_assert_eq!(pairs(&file), one("v", &value));
        }
    }
}
