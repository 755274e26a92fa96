//! The spellings under which a secret value may appear in a log.
//! Must not search for them.

use super::SHORTEST;

pub(super) const STANDARD: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// All byte strings to hide for `value`; empty when it is shorter than [`SHORTEST`].
///
/// base64 wrapped into lines, and other encodings, are not recognised.
pub(super) fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut plain = vec![value.to_vec()];
    plain.extend(
        value
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()),
    );
    plain.retain(|form| form.len() >= SHORTEST);
    plain.sort();
    plain.dedup();
    let mut forms = plain.clone();
    for form in plain {
        for alphabet in [STANDARD, URL] {
            forms.extend(encoded(&form, alphabet));
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort();
    forms.dedup();
    forms
}

/// The base64 characters that depend on `value` alone, for each of the three places where it may
/// begin inside a longer encoded text; and its own complete encoding, with and without padding.
fn encoded(value: &[u8], alphabet: &[u8; 64]) -> Vec<Vec<u8>> {
    let mut forms: Vec<Vec<u8>> = (0..3)
        .map(|before| {
            let mut text = vec![0; before];
            text.extend_from_slice(value);
            let whole = text.len() * 8 / 6;
            let own = (before * 8).div_ceil(6);
            sextets(&text, alphabet)[own..whole].to_vec()
        })
        .collect();
    let mut complete = sextets(value, alphabet);
    forms.push(complete.clone());
    complete.resize(complete.len().next_multiple_of(4), b'=');
    forms.push(complete);
    forms
}

/// base64 without padding (RFC 4648).
pub(super) fn sextets(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    bytes
        .chunks(3)
        .flat_map(|group| {
            let mut word = [0; 4];
            word[1..=group.len()].copy_from_slice(group);
            let bits = u32::from_be_bytes(word);
            let letter = move |place: usize| alphabet[(bits >> (18 - 6 * place)) as usize & 63];
            (0..=group.len()).map(letter).collect::<Vec<_>>()
        })
        .collect()
}
