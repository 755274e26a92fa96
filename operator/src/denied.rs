//! Who may not connect any more: lines of text in the key `denied` of the authority's Secret.
//! Must not close connections: who holds them watches the list.

use valkyrie::identity::{DenyList, IdentityStore, Serial, SpiffeId};

/// What one line denies.
enum Denied {
    Id(SpiffeId),
    Serial(Serial),
}

/// Denies these from now on, and tells of lines that mean nothing.
pub fn take_up(text: &str, identities: &IdentityStore) {
    let (denied, mistakes) = read(text);
    for mistake in mistakes {
        tracing::warn!(
            mistake,
            "A line of the Secret's key `denied` means nothing."
        );
    }
    tracing::info!("The list of denied agents was taken up.");
    identities.replace_denied(denied);
}

/// Reads the list: a SPIFFE id, or `serial` and the hexadecimal number of one certificate, in each
/// line; `#` begins a comment. Gives also what is wrong, with its line.
fn read(text: &str) -> (DenyList, Vec<String>) {
    let mut list = DenyList::new();
    let mut mistakes = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let read = match line.strip_prefix("serial ") {
            Some(serial) => Serial::parse(serial.trim()).map(Denied::Serial),
            None => SpiffeId::parse(line).ok().map(Denied::Id),
        };
        match read {
            Some(Denied::Serial(serial)) => list = list.serial(serial),
            Some(Denied::Id(id)) => list = list.id(id),
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
