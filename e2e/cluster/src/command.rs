//! Runs a program to its end and turns a failure into one readable error.
//! It must not start anything that outlives the call.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Standard output of a program that must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not run `{shown}`"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!(
            "`{shown}` failed ({}): {}",
            done.status,
            last_lines(&said, 15)
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Like [`output`] for a program given as words.
pub(crate) fn run(words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("a command has a program")?;
    output(Command::new(program).args(arguments))
}

/// Whether a program of that name is on the path.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_what_it_said() {
        let error = run(&["sh", "-c", "echo the reason >&2; exit 3"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh -c") && error.contains("the reason"),
            "{error}"
        );
    }

    #[test]
    fn last_lines_of_a_short_text_are_the_text() {
        assert_eq!(last_lines("a\nb\n", 5), "a\nb");
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
    }
}
