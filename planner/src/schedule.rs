//! Times that cron expressions name, in time zones.
//! Must not read the machine's clock or its time zones: the rules are built in.

use std::time::Duration;

use crds::{Overlap, Schedule};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::names::nearest;

/// Zone of schedules that name none.
const DEFAULT_ZONE: &str = "Etc/UTC";

/// A schedule whose times can be computed.
#[derive(Clone, Debug)]
pub(crate) struct ValidSchedule {
    pub(crate) spec: Schedule,
    pub(crate) deadline: Duration,
    cron: Cron,
    zone: TimeZone,
}

/// What is wrong with a part of a schedule, and what to do.
pub(crate) type Wrong = (&'static str, String, String);

impl ValidSchedule {
    /// Reads a schedule; the error names the field.
    pub(crate) fn parse(spec: &Schedule, deadline: Duration) -> Result<Self, Wrong> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let remedy = "write minute, hour, day of month, month and day of week, such as `0 3 * * *`";
        let wrong = |message: String| ("cron", message, remedy.to_owned());
        let cron = parser.parse(&spec.cron).map_err(|error| {
            let error = error.to_string();
            let error = error.trim_end_matches('.');
            wrong(format!("`{}` is no time: {error}", spec.cron))
        })?;
        let name = spec.time_zone.as_deref().unwrap_or(DEFAULT_ZONE);
        let zones = TimeZoneDatabase::bundled();
        let zone = zones.get(name).map_err(|_| {
            let known: Vec<_> = zones.available().map(|zone| zone.to_string()).collect();
            let remedy = match nearest(name, known.iter().map(String::as_str)) {
                Some(zone) => format!("did you mean `{zone}`?"),
                None => "use a name of the tz database, such as `Europe/Berlin`".to_owned(),
            };
            (
                "timeZone",
                format!("there is no time zone `{name}`"),
                remedy,
            )
        })?;
        let schedule = Self {
            spec: spec.clone(),
            deadline,
            cron,
            zone,
        };
        if schedule.next(Timestamp::UNIX_EPOCH).is_none() {
            return Err(wrong(format!("`{}` never comes", spec.cron)));
        }
        Ok(schedule)
    }

    /// The last time up to now.
    pub(crate) fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_zoned(self.zone.clone());
        let found = self.cron.find_previous_occurrence(&now, true).ok()?;
        Some(found.timestamp())
    }

    /// The first time after now.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_zoned(self.zone.clone());
        let found = self.cron.find_next_occurrence(&now, false).ok()?;
        Some(found.timestamp())
    }

    /// True when an earlier run keeps the next one from starting.
    pub(crate) fn forbids_overlap(&self) -> bool {
        self.spec.overlap == Overlap::Forbid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, zone: Option<&str>) -> Result<ValidSchedule, Wrong> {
        let spec = Schedule {
            cron: cron.to_owned(),
            time_zone: zone.map(str::to_owned),
            ..Schedule::default()
        };
        ValidSchedule::parse(&spec, Duration::from_secs(600))
    }

    fn after(cron: &str, zone: &str, now: &str) -> String {
        let schedule = schedule(cron, Some(zone)).unwrap();
        schedule.next(now.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn times_follow_the_zone_through_summer_and_winter() {
        let berlin = "Europe/Berlin";
        for (now, next) in [
            ("2026-01-10T00:00:00Z", "2026-01-10T02:00:00Z"),
            ("2026-07-10T00:00:00Z", "2026-07-10T01:00:00Z"),
            // 02:30 is missing on this night: it comes when the clocks have gone forward.
            ("2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
        ] {
            assert_eq!(after("0 3 * * *", berlin, now), next);
        }
        let gap = after("30 2 * * *", berlin, "2026-03-29T00:00:00Z");
        assert_eq!(gap, "2026-03-29T01:00:00Z");
        assert_eq!(
            after("*/5 * * * MON", "Etc/UTC", "2026-01-04T23:59:00Z"),
            "2026-01-05T00:00:00Z"
        );
    }

    #[test]
    fn the_last_time_is_the_one_that_has_just_come() {
        let schedule = schedule("0 * * * *", None).unwrap();
        let last = |now: &str| schedule.last(now.parse().unwrap()).unwrap().to_string();
        assert_eq!(last("2026-01-01T10:00:00Z"), "2026-01-01T10:00:00Z");
        assert_eq!(last("2026-01-01T10:59:59Z"), "2026-01-01T10:00:00Z");
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        let text = |cron: &str, zone: Option<&str>| {
            let (field, message, remedy) = schedule(cron, zone).unwrap_err();
            format!("{field}: {message}; {remedy}")
        };
        let all = [
            text("0 3 * *", None),
            text("0 0 3 * * *", None),
            text("61 * * * *", None),
            text("0 0 30 2 *", None),
            text("0 3 * * *", Some("Europe/Berln")),
            text("0 3 * * *", Some("Mars")),
        ];
        insta::assert_snapshot!(all.join("\n"), @r"
        cron: `0 3 * *` is no time: Invalid pattern: Pattern must have 5 fields when seconds are disallowed; write minute, hour, day of month, month and day of week, such as `0 3 * * *`
        cron: `0 0 3 * * *` is no time: Invalid pattern: Pattern must have 5 fields when seconds are disallowed; write minute, hour, day of month, month and day of week, such as `0 3 * * *`
        cron: `61 * * * *` is no time: Component error: Number out of bounds; write minute, hour, day of month, month and day of week, such as `0 3 * * *`
        cron: `0 0 30 2 *` never comes; write minute, hour, day of month, month and day of week, such as `0 3 * * *`
        timeZone: there is no time zone `Europe/Berln`; did you mean `Europe/Berlin`?
        timeZone: there is no time zone `Mars`; use a name of the tz database, such as `Europe/Berlin`
        ");
    }
}
