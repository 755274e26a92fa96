//! What a plain scalar means to kubectl: YAML 1.1 as the Go library `yaml.v2` reads it.
//! Must not be used for quoted scalars: they are always text.

use serde_json::{Number, Value};

const TRUE: &[&str] = &[
    "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON",
];
const FALSE: &[&str] = &[
    "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF",
];
const NULL: &[&str] = &["", "~", "null", "Null", "NULL"];

/// Infinite, and not a number.
const ENDLESS: &[&str] = &[
    ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN",
    ".NAN",
];

/// True for a number that JSON does not have, for which kubectl refuses the whole file.
pub(super) fn is_endless(text: &str) -> bool {
    ENDLESS.contains(&text)
}

/// The value of a scalar without quotes.
pub(super) fn plain(text: &str) -> Value {
    if TRUE.contains(&text) {
        Value::Bool(true)
    } else if FALSE.contains(&text) {
        Value::Bool(false)
    } else if NULL.contains(&text) {
        Value::Null
    } else {
        number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
    }
}

fn number(text: &str) -> Option<Number> {
    let first = text.chars().next()?;
    if !(first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return None;
    }
    let text = text.replace('_', "");
    integer(&text).or_else(|| float(&text))
}

/// Decimal, `0x`, `0o`, `0b`, and octal with a leading zero.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.as_str() {
        other if other.starts_with("0x") => (&lower[2..], 16),
        other if other.starts_with("0o") => (&lower[2..], 8),
        other if other.starts_with("0b") => (&lower[2..], 2),
        other if other.len() > 1 && other.starts_with('0') => (&lower[1..], 8),
        other => (other, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match negative {
        false => Some(magnitude.into()),
        true => i64::try_from(-i128::from(magnitude)).ok().map(Number::from),
    }
}

fn float(text: &str) -> Option<Number> {
    let shape = text.trim_start_matches(['+', '-']);
    let known = shape
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let digits = shape
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_digit() || c == '.')
        && shape.chars().any(|c| c.is_ascii_digit());
    if !known || !digits {
        return None;
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_and_numbers_mean_what_kubectl_reads() {
        for (text, value) in [
            ("yes", json!(true)),
            ("off", json!(false)),
            ("", json!(null)),
            ("~", json!(null)),
            ("12", json!(12)),
            ("-3", json!(-3)),
            ("0777", json!(511)),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("08", json!(8.0)),
            ("2026-11-24", json!("2026-11-24")),
            ("1h30m", json!("1h30m")),
            ("1.95.0", json!("1.95.0")),
            ("-", json!("-")),
            (".", json!(".")),
            ("hello", json!("hello")),
        ] {
            assert_eq!(plain(text), value, "{text:?}");
        }
    }

    #[test]
    fn only_the_spellings_of_yaml_are_numbers_without_end() {
        for text in [".inf", "-.Inf", "+.INF", ".nan", ".NaN", ".NAN"] {
            assert!(is_endless(text), "{text}");
        }
        for text in ["inf", "-.nan", ".iNf", ".infinity", "1e400", "."] {
            assert!(!is_endless(text), "{text}");
        }
    }
}
