//! Sections of `docs/benchmarks.md`: each benchmark writes its own and keeps the others.
//! Must not know what a section says.

use anyhow::{Context, Result};

use crate::shell;

const FILE: &str = "docs/benchmarks.md";
const TITLE: &str = "# Benchmarks\n";

/// Puts a section in the place of the one with this heading, or at the end.
pub(crate) fn write(heading: &str, body: &str) -> Result<()> {
    let path = shell::root().join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {FILE}"))?;
    Ok(std::fs::write(&path, replaced(&text, heading, body))?)
}

fn replaced(text: &str, heading: &str, body: &str) -> String {
    let section = format!("## {heading}\n\n{}\n", body.trim_end());
    let mut sections: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("## ") {
            sections.push(String::new());
        }
        if let Some(last) = sections.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    let first = format!("## {heading}\n");
    match sections.iter_mut().find(|it| it.starts_with(&first)) {
        Some(known) => *known = section,
        None => sections.push(section),
    }
    let mut out = TITLE.to_owned();
    for section in sections {
        out.push('\n');
        out.push_str(section.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_one_before_and_leaves_the_others() {
        let text = "# Benchmarks\n\n## A\n\none\n\n## B\n\ntwo\n";
        let changed = replaced(text, "A", "three\n");
        assert_eq!(changed, "# Benchmarks\n\n## A\n\nthree\n\n## B\n\ntwo\n");
        assert_eq!(replaced(&changed, "A", "three"), changed);
        let more = replaced(text, "C", "four");
        assert_eq!(more, format!("{text}\n## C\n\nfour\n"));
    }
}
