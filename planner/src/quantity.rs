//! Amounts as Kubernetes writes them: `512Mi`, `1.5G`, `1e9`.
//! Must not know what is counted.

/// Suffixes with what they stand for. See
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
const SUFFIXES: [(&str, u64); 12] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
];

/// Suffixes of parts.
const PARTS: [(char, f64); 3] = [('m', 1e-3), ('u', 1e-6), ('n', 1e-9)];

/// Bytes of an amount, parts of a byte left out; none for a text that is no amount.
pub fn bytes(text: &str) -> Option<u64> {
    number(text).map(|number| number as u64)
}

/// The amount of whatever it is; none for a text that is no amount.
pub fn number(text: &str) -> Option<f64> {
    let found = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix));
    let part = || {
        PARTS
            .into_iter()
            .find(|(suffix, _)| text.ends_with(*suffix))
    };
    let (digits, unit) = match (found, part()) {
        (Some((suffix, unit)), _) => (text.strip_suffix(suffix)?, *unit as f64),
        (None, Some((suffix, unit))) => (text.strip_suffix(suffix)?, unit),
        (None, None) => (text, 1.0),
    };
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E');
    let starts = digits.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+'));
    if !starts || !digits.chars().all(is_number) {
        return None;
    }
    let number: f64 = digits.parse().ok()?;
    let number = number * unit;
    (number.is_finite() && number < u64::MAX as f64).then_some(number)
}

/// Writes bytes in the largest unit from `Mi` on that loses nothing.
pub fn format(bytes: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match SUFFIXES[1..6].iter().rev().find(fits) {
        Some((suffix, unit)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_every_form() {
        for (text, wanted) in [
            ("0", 0),
            ("128974848", 128_974_848),
            ("129e6", 129_000_000),
            ("129M", 129_000_000),
            ("123Mi", 128_974_848),
            ("1.5Gi", 1_610_612_736),
            ("128974848000m", 128_974_848),
            ("+1k", 1_000),
        ] {
            assert_eq!(bytes(text), Some(wanted), "{text}");
        }
        for text in [
            "", "x", "1X", "Gi", "-1", "1 Gi", "inf", "nan", "1e99", "0x1",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_written_amount_is_read_as_the_same() {
        for (bytes_, text) in [
            (1 << 30, "1Gi"),
            (3 << 29, "1536Mi"),
            (1_000, "1000"),
            (0, "0"),
        ] {
            assert_eq!(format(bytes_), text);
            assert_eq!(bytes(text), Some(bytes_));
        }
    }
}
