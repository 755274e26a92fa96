//! Names in the text of expressions, such as `jobs.build.outputs.version`, and what they stand by.
//! Must not know which names there are.

use super::cursor::Cursor;

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
    opened.is_some_and(|text| !text.contains("}}")) || is_whole(cursor)
}

/// True in a field that is an expression without `${{ }}`.
fn is_whole(cursor: &Cursor) -> bool {
    cursor.ends_with(&["when"]) || cursor.ends_with(&["axes", "from"])
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

/// What `jobs.NAME.result` can be.
pub(super) const RESULTS: [&str; 4] = ["Succeeded", "Failed", "Skipped", "Cancelled"];

/// A word that a result is compared with, up to the cursor.
pub(super) struct Compared {
    /// What is typed of it, without a quote.
    pub(super) word: String,
    /// Begins the word: a quote that is still to be written.
    pub(super) before: String,
    /// Ends the word in the same way.
    pub(super) after: String,
}

/// The word at a place behind `jobs.NAME.result ==`.
pub(super) fn compared(line: &str, column: usize) -> Option<Compared> {
    let chars: Vec<char> = line.chars().collect();
    let before = &chars[..column.min(chars.len())];
    let typed = before.iter().rev().take_while(|c| is_name(**c)).count();
    let (rest, word) = before.split_at(before.len() - typed);
    let (rest, quote) = match rest.split_last() {
        Some((quote, rest)) if ['"', '\''].contains(quote) => (rest, Some(*quote)),
        _ => (rest, None),
    };
    let text: String = rest.iter().collect();
    let text = text.trim_end();
    let operand = text
        .strip_suffix("==")
        .or_else(|| text.strip_suffix("!="))?;
    let operand = operand.trim_end();
    let chain = chain_at(operand, operand.chars().count())?;
    let parts: Vec<&str> = chain.parts.iter().map(|part| part.text.as_str()).collect();
    let ["jobs", _, "result"] = parts[..] else {
        return None;
    };
    let end = quote.filter(|quote| chars.get(column) != Some(quote));
    let new = quote.is_none().then(|| other_quote(rest));
    let text = |quote: Option<char>| quote.map(String::from).unwrap_or_default();
    Some(Compared {
        word: word.iter().collect(),
        before: text(new),
        after: text(new.or(end)),
    })
}

/// A quote that does not end the YAML text that is open at the end of these characters.
fn other_quote(before: &[char]) -> char {
    let mut open = None;
    for character in before.iter().filter(|c| ['"', '\''].contains(c)) {
        match open {
            None => open = Some(*character),
            Some(quote) if quote == *character => open = None,
            Some(_) => {}
        }
    }
    if open == Some('\'') { '"' } else { '\'' }
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
    fn a_word_behind_the_result_of_a_job_gets_the_quotes_that_it_lacks() {
        let quotes = |line: &str| {
            let found = compared(line, line.chars().count())?;
            Some((found.word, found.before, found.after))
        };
        let some = |word: &str, before: &str, after: &str| {
            Some((word.to_owned(), before.to_owned(), after.to_owned()))
        };
        assert_eq!(quotes("when: jobs.a.result == "), some("", "'", "'"));
        assert_eq!(quotes("when: jobs.a.result!='Su"), some("Su", "", "'"));
        assert_eq!(
            quotes("v: '${{ jobs[\"a-b\"].result =="),
            some("", "\"", "\"")
        );
        assert_eq!(quotes("v: \"${{ jobs.a.result == Fa"), some("Fa", "'", "'"));
        assert_eq!(quotes("when: jobs.a.outputs.b == "), None);
        assert_eq!(quotes("when: jobs.a.result"), None);
        let closed = compared("when: jobs.a.result == ''", 24).unwrap();
        assert_eq!(closed.after, "", "the editor has closed it");
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
                compared(line, column);
            }
        }
    }
}
