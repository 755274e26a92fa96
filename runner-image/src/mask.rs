//! Hides secret values in a stream of bytes, also when a value is split across chunks.
//! Must not know where the bytes come from or go to, and must never print a secret.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use automaton::{Automaton, ROOT};

mod automaton;
mod forms;
#[cfg(test)]
mod tests;

/// What stands in the output for each unbroken run of secret bytes.
pub const MASK: &[u8] = b"***";

/// Values (and lines of values) shorter than this are not masked: they would hide ordinary
/// text and give nothing away.
pub const SHORTEST: usize = 4;

/// The secret values of a job, compiled for search. Cheap to clone.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Automaton>);

impl Secrets {
    /// Compiles `values`: each as a whole, each of its lines, and its base64 forms (standard and
    /// URL alphabet, at all three alignments). Anything shorter than [`SHORTEST`] is ignored.
    pub fn new<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Self {
        let mut automaton = Automaton::default();
        for value in values {
            for form in forms::forms(value.as_ref()) {
                automaton.insert(&form);
            }
        }
        automaton.link();
        Self(Arc::new(automaton))
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Masks one complete value.
    pub fn mask(&self, whole: &[u8]) -> Vec<u8> {
        let mut masker = self.masker();
        let mut out = Vec::with_capacity(whole.len());
        masker.push(whole, &mut out);
        masker.finish(&mut out);
        out
    }

    /// Starts masking a stream.
    pub fn masker(&self) -> Masker {
        Masker {
            secrets: self.clone(),
            state: ROOT,
            held: VecDeque::new(),
            hiding: false,
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(redacted)")
    }
}

/// Masks one stream. A byte leaves as soon as no secret that is still possible begins at or
/// before it, so a line is held back only where it ends in the beginning of a secret.
///
/// Every byte that belongs to any occurrence of any form is hidden, occurrences may overlap;
/// each longest run of hidden bytes becomes one [`MASK`]. So the result depends only on the
/// whole stream, never on the chunks.
pub struct Masker {
    secrets: Secrets,
    state: u32,
    /// Bytes not yet decided, with whether an occurrence covers them; never longer than the
    /// longest form.
    held: VecDeque<(u8, bool)>,
    /// The last byte that left was hidden.
    hiding: bool,
}

impl Masker {
    /// Takes the next bytes of the stream and appends what is decided to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let secrets = self.secrets.clone();
        let automaton = &*secrets.0;
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.state == ROOT {
                let plain = automaton.plain_prefix(rest);
                if plain > 0 {
                    self.release(0, out);
                    self.hiding = false;
                    out.extend_from_slice(&rest[..plain]);
                    rest = &rest[plain..];
                    continue;
                }
            }
            self.step(automaton, rest[0], out);
            rest = &rest[1..];
        }
    }

    /// Ends the stream: what was held back cannot become a secret any more.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(0, out);
        self.state = ROOT;
    }

    fn step(&mut self, automaton: &Automaton, byte: u8, out: &mut Vec<u8>) {
        self.state = automaton.next(self.state, byte);
        self.held.push_back((byte, false));
        let longest = automaton.longest_match(self.state);
        for (_, hidden) in self.held.iter_mut().rev().take(longest) {
            *hidden = true;
        }
        self.release(automaton.depth(self.state), out);
    }

    /// Lets all but the last `keep` held bytes go.
    fn release(&mut self, keep: usize, out: &mut Vec<u8>) {
        while self.held.len() > keep {
            let Some((byte, hidden)) = self.held.pop_front() else {
                return;
            };
            match (hidden, self.hiding) {
                (true, false) => out.extend_from_slice(MASK),
                (true, true) => {}
                (false, _) => out.push(byte),
            }
            self.hiding = hidden;
        }
    }
}
