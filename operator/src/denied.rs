//! Who may not connect any more: lines of text in the key `denied` of the authority's Secret.
//! Must not touch connections.

use valkyrie::identity::{DenyList, Serial, SpiffeId};

/// Reads the list: a SPIFFE id, or `serial` and the hexadecimal number of one certificate, in each
/// line; `#` begins a comment. Gives also what is wrong, with its line.
pub fn read(text: &str) -> (DenyList, Vec<String>) {
    let mut list = DenyList::new();
    let mut mistakes = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let serial = line.strip_prefix("serial ").map(str::trim);
        let read = match serial {
            Some(serial) => Serial::parse(serial).map(|serial| list.clone().serial(serial)),
            None => SpiffeId::parse(line).ok().map(|id| list.clone().id(id)),
        };
        match read {
            Some(longer) => list = longer,
            None => mistakes.push(format!(
                "line {}: `{line}` is neither a SPIFFE id nor `serial` with a hexadecimal number",
                number + 1
            )),
        }
    }
    (list, mistakes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_serials_are_read_and_mistakes_named_by_their_line() {
        let text = "# stolen\nspiffe://ci.example/ns/a/agent/1 # laptop\n\nserial 0a:ff\nagent 7\n";
        let (list, mistakes) = read(text);
        let id = SpiffeId::parse("spiffe://ci.example/ns/a/agent/1").unwrap();
        let serial = Serial::parse("0AFF").unwrap();
        assert_eq!(list, DenyList::new().id(id).serial(serial));
        let wanted = "line 5: `agent 7` is neither a SPIFFE id nor `serial` with a hexadecimal \
                      number";
        assert_eq!(mistakes, [wanted]);
        assert!(read("").0.is_empty());
    }
}
