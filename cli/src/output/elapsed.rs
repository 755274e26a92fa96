//! Spans of time as people read them.
//! Must not read the clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Milliseconds between two times of a status; none when the first is missing.
pub fn between(start: Option<&Time>, end: Option<&Time>, now: Timestamp) -> Option<u64> {
    let start = start?.0.as_millisecond();
    let end = end.map_or(now, |time| time.0).as_millisecond();
    Some(u64::try_from(end.saturating_sub(start)).unwrap_or(0))
}

/// A span such as `0.4s`, `12.3s`, `2m05s`, `3h10m`, `4d2h`.
pub fn text(millis: u64) -> String {
    let secs = millis / 1000;
    match secs {
        0..60 => format!("{secs}.{}s", millis % 1000 / 100),
        60..3600 => format!("{}m{:02}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h{:02}m", secs / 3600, secs / 60 % 60),
        _ => format!("{}d{}h", secs / 86_400, secs / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_shown_in_its_two_largest_units() {
        let shown = [0, 990, 59_990, 60_000, 3_725_000, 90_000_000].map(text);
        assert_eq!(shown, ["0.0s", "0.9s", "59.9s", "1m00s", "1h02m", "1d1h"]);
    }

    #[test]
    fn without_an_end_the_span_goes_to_now_and_is_never_negative() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let start = Time(at(5_000));
        assert_eq!(between(Some(&start), None, at(7_500)), Some(2_500));
        assert_eq!(
            between(Some(&start), Some(&Time(at(4_000))), at(0)),
            Some(0)
        );
        assert_eq!(between(None, None, at(0)), None);
    }
}
