//! Names in expressions, such as `jobs.build.outputs.version`, and what may follow them.
//! Must not check or evaluate: the planner does.

use super::cursor::Cursor;
use super::outline::{JobOutline, Named, Outline};

/// The names that expressions begin with.
const ROOTS: [&str; 7] = [
    "params", "jobs", "steps", "matrix", "source", "pipeline", "run",
];
/// Functions that conditions ask how the jobs or steps before have ended.
pub(super) const STATES: [&str; 4] = ["always()", "cancelled()", "failure()", "success()"];

/// A name with fields; each part with its first character and the one after its last.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Chain {
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Eq, PartialEq)]
pub(super) struct Part {
    pub(super) text: String,
    /// Characters from the start of the line; quotes and brackets count.
    pub(super) start: usize,
    pub(super) end: usize,
}

/// True when a place of a line is inside of `${{ }}`, or in a field that is an expression whole.
pub(super) fn is_inside(line: &str, column: usize, cursor: &Cursor) -> bool {
    let before: String = line.chars().take(column).collect();
    let opened = before.rfind("${{").map(|at| &before[at..]);
    opened.is_some_and(|text| !text.contains("}}")) || cursor.ends_with(&["when"])
}

/// The chain that a place of a line is in, cut after the part that the place is in.
pub(super) fn chain_at(line: &str, column: usize) -> Option<Chain> {
    let chars: Vec<char> = line.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        if is_name(chars[at]) && !chars[at].is_ascii_digit() {
            let (mut chain, end) = read(&chars, at);
            if (at..=end).contains(&column) {
                let last = chain.parts.iter().position(|part| column <= part.end)?;
                chain.parts.truncate(last + 1);
                return Some(chain);
            }
            at = end;
        }
        at += 1;
    }
    None
}

/// Reads a chain from its first character on; gives also where it ends.
fn read(chars: &[char], start: usize) -> (Chain, usize) {
    let mut chain = Chain::default();
    let mut at = start;
    loop {
        let end = chars[at..].iter().position(|c| !is_name(*c));
        let end = end.map_or(chars.len(), |length| at + length);
        chain.parts.push(Part {
            text: chars[at..end].iter().collect(),
            start: at,
            end,
        });
        at = end;
        while let Some((part, end)) = in_brackets(chars, at) {
            chain.parts.push(part);
            at = end;
        }
        match chars.get(at) {
            Some('.') => at += 1,
            _ => return (chain, at),
        }
    }
}

/// A part such as `["my-job"]`, also while its end is not written.
fn in_brackets(chars: &[char], at: usize) -> Option<(Part, usize)> {
    let quote = *chars
        .get(at + 1)
        .filter(|quote| ['"', '\''].contains(quote))?;
    if chars.get(at) != Some(&'[') {
        return None;
    }
    let inner = at + 2;
    let length = chars[inner..].iter().position(|c| *c == quote);
    let end = length.map_or(chars.len(), |length| inner + length);
    let after = end + chars[end..].iter().take(2).count();
    let text = chars[inner..end].iter().collect();
    let part = Part {
        text,
        start: at,
        end,
    };
    Some((part, after))
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The names that may stand after the parts of a chain; `job` is the one that the expression is in.
pub(super) fn next(parts: &[&str], outline: &Outline, job: Option<&JobOutline>) -> Vec<Named> {
    let plain = |names: &[&str]| names.iter().map(|name| Named::of(name)).collect::<Vec<_>>();
    let inputs = job.and_then(|job| job.inputs.as_ref());
    match parts {
        [] if inputs.is_some() => plain(&["inputs", "steps", "source", "pipeline", "run"]),
        [] => plain(&ROOTS),
        ["inputs"] => inputs.cloned().unwrap_or_default(),
        ["params"] => outline.params.clone(),
        ["source"] => plain(&["branch", "tag", "commit", "pullRequest"]),
        ["matrix"] => job.map(|job| job.axes.clone()).unwrap_or_default(),
        ["pipeline"] => plain(&["name"]),
        ["run"] => plain(&["name", "namespace"]),
        ["jobs"] => {
            let is_known =
                |other: &&JobOutline| job.is_none_or(|job| job.needs.contains(&other.named.name));
            let jobs = outline.jobs.iter().filter(is_known);
            jobs.map(|job| job.named.clone()).collect()
        }
        ["jobs", _] => plain(&["result", "outputs"]),
        ["jobs", name, "outputs"] => outline
            .job(name)
            .map(|job| job.outputs.clone())
            .unwrap_or_default(),
        ["steps"] => job.map(|job| job.steps.clone()).unwrap_or_default(),
        ["steps", _] => plain(&["outputs"]),
        _ => Vec::new(),
    }
}

/// What a whole chain names, if it is declared in the document.
pub(super) fn declaration(
    parts: &[&str],
    outline: &Outline,
    job: Option<&JobOutline>,
) -> Option<Named> {
    let (last, before) = parts.split_last()?;
    // A job that is not needed is declared all the same.
    let known = match before {
        ["jobs"] => outline.jobs.iter().map(|job| job.named.clone()).collect(),
        ["params"] | ["inputs"] | ["matrix"] | ["jobs", _, "outputs"] | ["steps"] => {
            next(before, outline, job)
        }
        _ => Vec::new(),
    };
    known.into_iter().find(|named| named.name == *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str, column: usize) -> Vec<String> {
        let chain = chain_at(line, column).unwrap_or_default();
        chain.parts.into_iter().map(|part| part.text).collect()
    }

    #[test]
    fn the_chain_at_a_place_is_cut_after_its_part() {
        let line = "v: ${{ jobs.dig.outputs.depth + params.n }}";
        assert_eq!(parts(line, 8), ["jobs"]);
        assert_eq!(parts(line, 13), ["jobs", "dig"]);
        assert_eq!(parts(line, 29), ["jobs", "dig", "outputs", "depth"]);
        assert_eq!(parts(line, 40), ["params", "n"]);
        assert_eq!(parts("${{ jobs.", 9), ["jobs", ""]);
        assert_eq!(
            parts("${{ jobs[\"my-job\"].res", 22),
            ["jobs", "my-job", "res"]
        );
        assert_eq!(parts("${{ jobs[\"my-", 13), ["jobs", "my-"]);
        assert!(parts("${{ 1 + ", 8).is_empty());
    }

    #[test]
    fn no_place_of_any_line_makes_it_panic() {
        for line in [
            "${{ a[\"b",
            "a.b.[\"c\"].",
            "ü🌲.x['",
            "..a..",
            "[\"\"]",
            "",
        ] {
            for column in 0..=line.chars().count() + 1 {
                chain_at(line, column);
            }
        }
    }
}
