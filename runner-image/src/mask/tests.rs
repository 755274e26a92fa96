//! Tests of masking: what is hidden, and that chunking never matters.
//! Must not test how logs travel.

use super::{MASK, SHORTEST, Secrets};
use proptest::prelude::*;

fn masked(secrets: &[&str], text: &str) -> String {
    String::from_utf8(Secrets::new(secrets).mask(text.as_bytes())).unwrap()
}

fn masked_in_chunks(secrets: &Secrets, text: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut masker = secrets.masker();
    let (mut out, mut rest, mut turn) = (Vec::new(), text, 0);
    while !rest.is_empty() {
        let size = sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(1);
        let (chunk, tail) = rest.split_at(size.clamp(1, rest.len()));
        masker.push(chunk, &mut out);
        rest = tail;
        turn += 1;
    }
    masker.finish(&mut out);
    out
}

#[test]
fn a_secret_becomes_three_stars() {
    assert_eq!(masked(&["hunter22"], "pw=hunter22;\n"), "pw=***;\n");
}

#[test]
fn text_without_secrets_is_unchanged() {
    assert_eq!(
        masked(&["hunter22"], "hunt er22 hunter2"),
        "hunt er22 hunter2"
    );
    assert_eq!(masked(&[], "anything"), "anything");
}

#[test]
fn values_shorter_than_four_bytes_are_ignored() {
    assert_eq!(SHORTEST, 4);
    assert_eq!(masked(&["abc", "", "a\nb"], "abc a\nb"), "abc a\nb");
    assert!(Secrets::new(["abc"]).is_empty());
}

#[test]
fn each_line_of_a_value_is_a_secret() {
    let key = "-----BEGIN-----\r\nfirstline\nsecondline\nab\n";
    assert_eq!(
        masked(&[key], "x firstline y secondline ab"),
        "x *** y *** ab"
    );
}

#[test]
fn overlapping_secrets_are_hidden_as_one_run() {
    assert_eq!(masked(&["abcd", "cdef"], "xabcdefx"), "x***x");
    assert_eq!(masked(&["abcd", "efgh"], "xabcdefghx"), "x***x");
    assert_eq!(masked(&["aaaa"], "aaaaaaa b"), "*** b");
    assert_eq!(masked(&["abcdXabcdY", "cdXab"], "abcdXabcd"), "ab***cd");
}

#[test]
fn base64_of_a_secret_is_hidden_at_every_alignment() {
    // printf 'hunter22' | base64; printf ':hunter22!' | base64; printf 'ab:hunter22' | base64
    for text in ["aHVudGVyMjI=", "Omh1bnRlcjIyIQ==", "YTpodW50ZXIyMg=="] {
        let out = masked(&["hunter22"], text);
        assert!(out.contains("***"), "{text} became {out}");
        assert!(
            !out.contains("dW50ZXI") && !out.contains("1bnRlcj"),
            "{out}"
        );
    }
    assert_eq!(masked(&["hunter22"], "aHVudGVyMjI="), "***");
    assert_eq!(masked(&["??>>??>>"], "Pz8-Pj8_Pj4 Pz8+Pj8/Pj4="), "*** ***");
}

#[test]
fn a_line_that_holds_no_beginning_of_a_secret_leaves_at_once() {
    let secrets = Secrets::new(["hunter22"]);
    let mut masker = secrets.masker();
    let mut out = Vec::new();
    masker.push(b"hello\nhunt", &mut out);
    assert_eq!(out, b"hello\n");
    masker.push(b"er22", &mut out);
    masker.push(b"!", &mut out);
    assert_eq!(out, b"hello\n***!");
}

#[test]
fn bytes_that_are_not_text_pass() {
    let secrets = Secrets::new([&[0xff, 0xfe, 0x00, 0x80][..]]);
    assert_eq!(secrets.mask(b"\x00\xff\xfe\x00\x80\xff"), b"\x00***\xff");
}

#[test]
fn secrets_do_not_print_themselves() {
    assert_eq!(
        format!("{:?}", Secrets::new(["hunter22"])),
        "Secrets(redacted)"
    );
}

/// The definition, written without an automaton.
fn reference(forms: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
    let mut hidden = vec![false; text.len()];
    for form in forms {
        for start in 0..text.len() {
            if text[start..].starts_with(form) {
                hidden[start..start + form.len()].fill(true);
            }
        }
    }
    let mut out = Vec::new();
    for (place, &byte) in text.iter().enumerate() {
        match (hidden[place], place > 0 && hidden[place - 1]) {
            (true, false) => out.extend_from_slice(MASK),
            (true, true) => {}
            (false, _) => out.push(byte),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn masked_output_never_contains_a_secret_and_ignores_chunking(
        values in prop::collection::vec("[abc\n]{0,9}", 0..5),
        noise in prop::collection::vec("[abc\n]{0,7}", 0..12),
        sizes in prop::collection::vec(1_usize..9, 1..8),
    ) {
        let mut text = Vec::new();
        for (turn, piece) in noise.iter().enumerate() {
            text.extend_from_slice(piece.as_bytes());
            if let Some(value) = values.get(turn % 7) {
                text.extend_from_slice(value.as_bytes());
            }
        }
        let secrets = Secrets::new(&values);
        let whole = secrets.mask(&text);
        prop_assert_eq!(&masked_in_chunks(&secrets, &text, &sizes), &whole);
        let forms: Vec<Vec<u8>> =
            values.iter().flat_map(|value| super::forms::forms(value.as_bytes())).collect();
        prop_assert_eq!(&reference(&forms, &text), &whole);
        for form in forms {
            prop_assert!(!whole.windows(form.len()).any(|window| window == form));
        }
    }

    #[test]
    fn any_base64_text_around_a_secret_hides_its_letters(
        before in prop::collection::vec(any::<u8>(), 0..5),
        value in prop::collection::vec(any::<u8>(), 4..20),
        after in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        let text = [&before[..], &value, &after].concat();
        let encoded = super::forms::sextets(&text, super::forms::STANDARD);
        let out = Secrets::new([&value]).mask(&encoded);
        let own = (before.len() * 8).div_ceil(6)..(before.len() + value.len()) * 8 / 6;
        let core = &encoded[own];
        prop_assert!(!out.windows(core.len()).any(|window| window == core));
    }
}
