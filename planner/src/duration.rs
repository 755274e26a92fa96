//! Durations as users write them: `90s`, `1h30m`, `14d`.
//! Must not accept what reads as two things: units fall from large to small, each at most once.

use std::time::Duration;

/// Units, largest first, with their length in seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Longest text, in bytes, as in the schema.
const MAX_LEN: usize = 16;

/// A hundred years: longer times count as this, so that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Why a text is no duration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DurationError {
    /// Nothing is written.
    #[error("the duration is empty")]
    Empty,
    /// A number without a unit, such as `30`.
    #[error("`{0}` has no unit")]
    MissingUnit(String),
    /// A unit without a number, such as `h`, or a character that belongs to neither.
    #[error("`{0}` is not expected here")]
    Unexpected(char),
    /// Units out of order or twice, such as `30m1h`.
    #[error("the unit `{0}` stands after a smaller or an equal one")]
    Order(char),
    /// More than 16 characters.
    #[error("the duration has more than 16 characters")]
    TooLong,
    /// `0s` and the like.
    #[error("the duration is zero")]
    Zero,
}

/// What to do about any [`DurationError`].
pub const REMEDY: &str =
    "write numbers with the units d, h, m, s, largest first, such as `90s`, `20m`, `1h30m`, `14d`";

/// Reads a duration: one to four numbers with the units `d`, `h`, `m`, `s`, largest first, more
/// than zero in all, at most 16 characters.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.len() > MAX_LEN {
        return Err(DurationError::TooLong);
    }
    let mut seconds: u64 = 0;
    let mut digits = String::new();
    let mut next_unit = 0;
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let Some(unit) = UNITS.iter().position(|(name, _)| *name == c) else {
            return Err(DurationError::Unexpected(c));
        };
        if digits.is_empty() {
            return Err(DurationError::Unexpected(c));
        }
        if unit < next_unit {
            return Err(DurationError::Order(c));
        }
        next_unit = unit + 1;
        let number: u64 = digits.parse().expect("fifteen digits are less than 2^64");
        seconds = seconds.saturating_add(number.saturating_mul(UNITS[unit].1));
        digits.clear();
    }
    if !digits.is_empty() {
        return Err(DurationError::MissingUnit(digits));
    }
    if seconds == 0 {
        return Err(DurationError::Zero);
    }
    Ok(Duration::from_secs(seconds).min(LONGEST))
}

/// Writes a duration as [`parse`] reads it, in whole seconds; `0s` for less.
pub fn format(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (name, length) in UNITS {
        if rest >= length {
            text.push_str(&format!("{}{name}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_every_unit_are_read() {
        for (text, seconds) in [
            ("90s", 90),
            ("20m", 1_200),
            ("1h30m", 5_400),
            ("14d", 1_209_600),
            ("1d2h3m4s", 93_784),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        let cases = [
            ("", "the duration is empty"),
            ("30", "`30` has no unit"),
            ("1h30", "`30` has no unit"),
            ("h", "`h` is not expected here"),
            ("1 h", "` ` is not expected here"),
            ("-5m", "`-` is not expected here"),
            ("1.5h", "`.` is not expected here"),
            ("5min", "`i` is not expected here"),
            (
                "30m1h",
                "the unit `h` stands after a smaller or an equal one",
            ),
            (
                "1h1h",
                "the unit `h` stands after a smaller or an equal one",
            ),
            (
                "1234567890123456s",
                "the duration has more than 16 characters",
            ),
            ("0s", "the duration is zero"),
            ("0h0m", "the duration is zero"),
        ];
        for (text, message) in cases {
            assert_eq!(
                parse(text).map_err(|error| error.to_string()),
                Err(message.to_owned())
            );
        }
    }

    #[test]
    fn endless_durations_count_as_a_hundred_years() {
        assert_eq!(parse("999999999999999d"), Ok(LONGEST));
    }

    #[test]
    fn a_written_duration_is_read_as_the_same() {
        for seconds in [1, 59, 60, 61, 3_600, 3_661, 86_400, 999_999] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse(&format(duration)), Ok(duration));
        }
        assert_eq!(format(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(format(Duration::from_millis(20)), "0s");
    }
}
