//! Where the cursor stands in a document that may be half written: the path of fields to it, and
//! whether a key or a value is being typed there.
//! Must not need the document to be right YAML: it goes by indentation and brackets.

/// One step of a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Segment {
    Key(String),
    Item(usize),
}

/// What is being typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    Key,
    Value,
}

/// Where the cursor stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Cursor {
    /// From the document's root to the map that the key is in, or to the value.
    pub(super) path: Vec<Segment>,
    pub(super) place: Place,
    /// What is typed of the key or value so far.
    pub(super) word: String,
}

impl Cursor {
    /// True when the path ends with these keys, items of lists left out.
    pub(super) fn ends_with(&self, keys: &[&str]) -> bool {
        let names: Vec<&str> = self.keys().collect();
        names.ends_with(keys)
    }

    /// The keys of the path.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.path.iter().filter_map(|segment| match segment {
            Segment::Key(name) => Some(name.as_str()),
            Segment::Item(_) => None,
        })
    }

    /// The index that follows a key of the path, such as that of the job after `jobs`.
    pub(super) fn index_after(&self, key: &str) -> Option<usize> {
        self.path.windows(2).find_map(|pair| match pair {
            [Segment::Key(name), Segment::Item(index)] if name == key => Some(*index),
            _ => None,
        })
    }
}

/// The place at the end of `before`, the text of one document up to the cursor; none in comments
/// and in texts of several lines, such as scripts.
pub(super) fn find(before: &str) -> Option<Cursor> {
    let mut open = Open::default();
    let mut rest = before;
    loop {
        let (line, after) = match rest.split_once('\n') {
            Some((line, after)) => (line, Some(after)),
            None => (rest, None),
        };
        match open.line(line, rest, after.is_none()) {
            Step::Next => {}
            Step::Skip(bytes) => {
                rest = rest[bytes..]
                    .split_once('\n')
                    .map_or("", |(_, after)| after);
                continue;
            }
            Step::Found(cursor) => return cursor,
        }
        rest = after?;
    }
}

/// What a line led to.
enum Step {
    Next,
    /// A list or map in brackets ended so many bytes after the start of the line.
    Skip(usize),
    Found(Option<Cursor>),
}

/// The fields that are open at a line, by their columns.
#[derive(Default)]
struct Open {
    stack: Vec<(usize, Segment)>,
    /// Column of the field whose text goes over the following, deeper lines.
    text: Option<usize>,
}

impl Open {
    fn line(&mut self, line: &str, rest: &str, is_last: bool) -> Step {
        let trimmed = line.trim_start_matches(' ');
        let mut column = line.len() - trimmed.len();
        if let Some(text) = self.text {
            if column > text || (trimmed.trim().is_empty() && !is_last) {
                return if is_last {
                    Step::Found(None)
                } else {
                    Step::Next
                };
            }
            self.text = None;
        }
        if trimmed.starts_with('#') || (is_last && trimmed.contains(" #")) {
            return if is_last {
                Step::Found(None)
            } else {
                Step::Next
            };
        }
        if trimmed.trim().is_empty() && !is_last {
            return Step::Next;
        }
        let mut content = trimmed;
        while let Some(inner) = content.strip_prefix('-') {
            if !inner.is_empty() && !inner.starts_with(' ') {
                break;
            }
            self.item(column);
            let inner = inner.trim_start_matches(' ');
            column += content.len() - inner.len();
            content = inner;
        }
        self.content(line, rest, content, column, is_last)
    }

    /// Goes to the next entry of the list at a column.
    fn item(&mut self, column: usize) {
        let deeper = |(known, segment): &(usize, Segment)| {
            *known > column || (*known == column && matches!(segment, Segment::Item(_)))
        };
        let mut index = 0;
        while let Some((known, segment)) = self.stack.pop_if(|top| deeper(top)) {
            if let (true, Segment::Item(last)) = (known == column, segment) {
                index = last + 1;
            }
        }
        self.stack.push((column, Segment::Item(index)));
    }

    fn content(
        &mut self,
        line: &str,
        rest: &str,
        content: &str,
        column: usize,
        is_last: bool,
    ) -> Step {
        let start = line.len() - content.len();
        if content.starts_with(['{', '[']) {
            return self.brackets(&rest[start..], start);
        }
        let Some((key, value)) = split_key(content) else {
            if is_last {
                self.close(column);
                return Step::Found(Some(self.cursor(Place::Key, content)));
            }
            return Step::Next;
        };
        self.close(column);
        self.stack.push((column, Segment::Key(key.to_owned())));
        let value = value.trim_start_matches(' ');
        let start = line.len() - value.len();
        if value.starts_with(['{', '[']) {
            return self.brackets(&rest[start..], start);
        }
        if is_last {
            return Step::Found(Some(self.cursor(Place::Value, value)));
        }
        if value.starts_with(['|', '>']) {
            self.text = Some(column);
        }
        Step::Next
    }

    /// Closes the fields that a key at a column does not belong to.
    fn close(&mut self, column: usize) {
        while self.stack.pop_if(|(known, _)| *known >= column).is_some() {}
    }

    fn cursor(&self, place: Place, word: &str) -> Cursor {
        Cursor {
            path: self
                .stack
                .iter()
                .map(|(_, segment)| segment.clone())
                .collect(),
            place,
            word: word.trim_start_matches(['"', '\'']).to_owned(),
        }
    }

    /// A list or map in brackets, from its first bracket on; `start` is where that stands.
    fn brackets(&mut self, text: &str, start: usize) -> Step {
        let mut open: Vec<Bracket> = Vec::new();
        let mut word = 0;
        let mut quote = None;
        for (at, character) in text.char_indices() {
            if let Some(end) = quote {
                quote = (character != end).then_some(end);
                continue;
            }
            let next = text[at + character.len_utf8()..].chars().next();
            match character {
                '"' | '\'' if text[word..at].trim().is_empty() => quote = Some(character),
                '{' | '[' => open.push(Bracket::new(character)),
                '}' | ']' => {
                    open.pop();
                    if open.is_empty() {
                        return Step::Skip(start + at);
                    }
                }
                ',' => open.iter_mut().last().into_iter().for_each(Bracket::next),
                ':' if next.is_none_or(|next| next == ' ') => {
                    let name = text[word..at].trim().trim_matches(['"', '\'']);
                    open.iter_mut()
                        .last()
                        .into_iter()
                        .for_each(|top| top.name(name));
                }
                _ => continue,
            }
            if quote.is_none() {
                word = at + character.len_utf8();
            }
        }
        let place = match open.last() {
            Some(Bracket::Map(None)) => Place::Key,
            _ => Place::Value,
        };
        let mut cursor = self.cursor(place, text[word..].trim_start());
        cursor
            .path
            .extend(open.into_iter().filter_map(Bracket::segment));
        Step::Found(Some(cursor))
    }
}

/// A list or map in brackets that is not closed yet.
enum Bracket {
    /// The key whose value is read; none while a key is read.
    Map(Option<String>),
    List(usize),
}

impl Bracket {
    fn new(character: char) -> Self {
        match character {
            '{' => Self::Map(None),
            _ => Self::List(0),
        }
    }

    fn next(&mut self) {
        match self {
            Self::Map(key) => *key = None,
            Self::List(index) => *index += 1,
        }
    }

    fn name(&mut self, name: &str) {
        if let Self::Map(key @ None) = self {
            *key = Some(name.to_owned());
        }
    }

    fn segment(self) -> Option<Segment> {
        match self {
            Self::Map(key) => key.map(Segment::Key),
            Self::List(index) => Some(Segment::Item(index)),
        }
    }
}

/// `key: value` in its parts.
fn split_key(content: &str) -> Option<(&str, &str)> {
    let quoted = content
        .chars()
        .next()
        .filter(|first| ['"', '\''].contains(first));
    let end = match quoted {
        Some(quote) => content[1..].find(quote)? + 2,
        None => 0,
    };
    let colon = content[end..].match_indices(':').find_map(|(at, _)| {
        let after = content[end + at + 1..].chars().next();
        after.is_none_or(char::is_whitespace).then_some(end + at)
    })?;
    let key = content[..colon].trim().trim_matches(['"', '\'']);
    Some((key, &content[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path in words, the place, and the word.
    fn at(before: &str) -> String {
        let Some(cursor) = find(before) else {
            return "nowhere".to_owned();
        };
        let path: Vec<String> = cursor
            .path
            .iter()
            .map(|segment| match segment {
                Segment::Key(name) => name.clone(),
                Segment::Item(index) => index.to_string(),
            })
            .collect();
        format!("{} {:?} {}", path.join("."), cursor.place, cursor.word)
    }

    #[test]
    fn keys_and_values_are_found_by_their_indentation() {
        let head = "kind: Pipeline\nspec:\n  timeout: 1h\n  jobs:\n    - name: a\n      steps:\n";
        assert_eq!(at(""), " Key ");
        assert_eq!(at("ki"), " Key ki");
        assert_eq!(at("kind: Pi"), "kind Value Pi");
        assert_eq!(at("spec:\n  "), "spec Key ");
        assert_eq!(at("spec:\n  jobs:\n    - "), "spec.jobs.0 Key ");
        assert_eq!(
            at(&format!("{head}        - na")),
            "spec.jobs.0.steps.0 Key na"
        );
        assert_eq!(at(&format!("{head}      im")), "spec.jobs.0 Key im");
        assert_eq!(
            at(&format!("{head}    - name: ")),
            "spec.jobs.1.name Value "
        );
        assert_eq!(at(&format!("{head}  ret")), "spec Key ret");
        let list = "spec:\n  jobs:\n  - name: a\n  - name: b\n    needs:\n    - ";
        assert_eq!(at(list), "spec.jobs.1.needs.0 Key ");
        assert_eq!(
            at(&format!("{list}a\n    - b")),
            "spec.jobs.1.needs.1 Key b"
        );
        assert_eq!(at(&format!("{list}a\n  ti")), "spec Key ti");
    }

    #[test]
    fn brackets_are_followed_over_lines() {
        assert_eq!(at("needs: ["), "needs.0 Value ");
        assert_eq!(at("needs: [a, b"), "needs.1 Value b");
        assert_eq!(at("- {name: a, ru"), "0 Key ru");
        assert_eq!(at("- {name: a, run: x"), "0.run Value x");
        assert_eq!(at("- {name: a,\n   env: [{name: B, va"), "0.env.0 Key va");
        assert_eq!(at("- {a: \"x, {\", b: "), "0.b Value ");
        assert_eq!(at("- {a: [1, 2]}\n- b: "), "1.b Value ");
        assert_eq!(at("a: {b: [1,\n 2]}\nc: "), "c Value ");
    }

    #[test]
    fn there_is_nothing_to_say_in_scripts_and_comments() {
        assert_eq!(at("run: |\n  ec"), "nowhere");
        assert_eq!(at("- run: |\n    a: b\n\n    "), "nowhere");
        assert_eq!(at("- run: |\n    a: b\n  na"), "0 Key na");
        assert_eq!(at("# ki"), "nowhere");
        assert_eq!(at("a: b # ki"), "nowhere");
    }

    #[test]
    fn no_text_whatever_makes_it_panic() {
        let text = "spec:\n  jobs: [{a: 'x', \"ü\": 🌲}, - ]\n - {\n: |\n  -\n- - a: >\n \
                    '\": {[";
        for (end, _) in text.char_indices() {
            for (start, _) in text[..end].char_indices() {
                find(&text[start..end]);
            }
        }
    }
}
