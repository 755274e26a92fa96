//! Derived names of objects: the same input gives the same name, so creating twice is harmless.
//! Must not use anything random.

/// Longest DNS label.
const MAX_LABEL: usize = 63;

/// Characters of a hash in a name.
const HASH_LEN: usize = 10;

/// Name of the place (pod) of an attempt: at most 63 characters, a DNS label. The run's uid is in
/// its hash, so a run that was deleted and made again does not meet the old run's pods.
pub fn place(run: &str, run_uid: &str, job: &str, attempt: u32) -> String {
    let hash = hash([run, run_uid, job, &attempt.to_string()]);
    // The job's name tells pods of one run apart, so it gets its place before the run's.
    let room = MAX_LABEL - HASH_LEN - 2;
    let job = label(job, room / 2);
    let run = label(run, room - job.len());
    format!("{run}-{job}-{hash}")
}

/// Name of the run that `triggers.apply` starts for a generation of a pipeline.
pub fn applied_run(pipeline: &str, generation: i64) -> String {
    let suffix = format!("-g{generation}");
    if pipeline.len() + suffix.len() <= MAX_LABEL {
        return format!("{pipeline}{suffix}");
    }
    let hash = hash([pipeline]);
    let head = label(pipeline, MAX_LABEL - suffix.len() - HASH_LEN - 1);
    format!("{head}-{hash}{suffix}")
}

/// Tells the schedules of a pipeline apart: fit for a label's value.
pub fn schedule(cron: &str, time_zone: Option<&str>) -> String {
    hash([cron, time_zone.unwrap_or_default()])
}

/// Name of the run that a schedule starts at a time, in minutes since 1970.
pub fn scheduled_run(pipeline: &str, schedule: &str, minute: i64) -> String {
    let suffix = format!("-{minute}-{schedule}");
    let head = label(pipeline, MAX_LABEL - suffix.len());
    format!("{head}{suffix}")
}

/// Name of one job of a matrix: `JOB.VALUE_VALUE`, at most 63 characters, fit for a label's value.
/// Names of plain jobs hold no dot, so none is taken. What cannot be shown is told apart by a hash.
pub fn matrix_job<'a>(job: &'a str, values: impl Iterator<Item = &'a str> + Clone) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let exact = |value: &str| {
        !value.is_empty()
            && value.chars().all(|c| is_plain(c) || c == '_')
            && value.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let shown: Vec<String> = values
        .clone()
        .map(|value| {
            value
                .chars()
                .map(|c| if is_plain(c) { c } else { '_' })
                .collect()
        })
        .collect();
    let name = format!("{job}.{}", shown.join("_"));
    let is_ambiguous = shown.len() > 1 && values.clone().any(|value| value.contains('_'));
    if name.len() <= MAX_LABEL && values.clone().all(exact) && !is_ambiguous {
        return name;
    }
    let hash = hash([job].into_iter().chain(values));
    // The job's own part and its dot stay, so that the name is no plain job's.
    let job: String = job.chars().take(MAX_LABEL - HASH_LEN - 2).collect();
    let room = MAX_LABEL - HASH_LEN - 2 - job.len();
    let values: String = shown.join("_").chars().take(room).collect();
    format!("{job}.{values}-{hash}")
}

/// The name of `candidates` that is most like `wrong`, if one is near enough to be meant: at most
/// a third of its letters differ, and one letter for short names.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (wrong.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(wrong, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// The first characters of a name as (part of) a DNS label: dots become dashes, no dash at an end.
fn label(name: &str, max: usize) -> String {
    let mut text = String::with_capacity(name.len().min(max));
    text.extend(name.chars().take(max).map(|c| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
        _ => '-',
    }));
    text.truncate(text.trim_end_matches('-').len());
    let dashes = text.len() - text.trim_start_matches('-').len();
    text.drain(..dashes);
    if text.is_empty() {
        text.push('x');
    }
    text
}

/// Ten letters and digits of FNV-1a (64 bits, <http://www.isthe.com/chongo/tech/comp/fnv/>) over
/// the parts. Names must stay the same over versions, so this is not the standard library's hasher.
fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        part.bytes().for_each(&mut mix);
        // A byte that no name holds keeps ("ab", "c") and ("a", "bc") apart.
        mix(0);
    }
    // FNV's low bits mix worst for short inputs: fold the high half in.
    let folded = hash ^ (hash >> 29);
    (0..HASH_LEN)
        .map(|i| char::from(ALPHABET[(folded >> (i * 5)) as usize & 31]))
        .collect()
}

/// Optimal string alignment distance: insertions, deletions, changes and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_label(name: &str) -> bool {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !name.is_empty()
            && name.len() <= MAX_LABEL
            && name.chars().all(inner)
            && !name.starts_with('-')
            && !name.ends_with('-')
    }

    #[test]
    fn a_place_has_the_same_name_each_time() {
        assert_eq!(
            place("build-7", "uid-1", "test", 1),
            place("build-7", "uid-1", "test", 1)
        );
        // Written out: pods of an older version must be found again.
        assert_eq!(
            place("build-7", "uid-1", "test", 1),
            "build-7-test-cuk7bxarye"
        );
    }

    #[test]
    fn every_part_counts_for_the_name_of_a_place() {
        let name = place("build-7", "uid-1", "test", 1);
        assert_ne!(name, place("build-8", "uid-1", "test", 1));
        assert_ne!(name, place("build-7", "uid-2", "test", 1));
        assert_ne!(name, place("build-7", "uid-1", "lint", 1));
        assert_ne!(name, place("build-7", "uid-1", "test", 2));
        assert_ne!(place("a", "u", "b-c", 1), place("a-b", "u", "c", 1));
    }

    #[test]
    fn names_of_places_are_labels_however_long_their_parts() {
        let long = "x".repeat(250);
        let dotted = format!("{}.{}", "a".repeat(40), "-b".repeat(30));
        for run in ["r", "a.b", &long, &dotted] {
            for job in ["j", "0", &long[..63], "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q"] {
                let name = place(run, "0b7c", job, u32::MAX);
                assert!(is_label(&name), "{name}");
            }
        }
    }

    #[test]
    fn many_places_have_many_names() {
        let mut names = std::collections::HashSet::new();
        for run in 0..100 {
            for job in 0..100 {
                let name = place(&"r".repeat(100), &run.to_string(), &job.to_string(), 1);
                assert!(names.insert(name));
            }
        }
    }

    #[test]
    fn jobs_of_a_matrix_are_named_after_their_values() {
        fn name(job: &str, values: &[&str]) -> String {
            matrix_job(job, values.iter().copied())
        }
        assert_eq!(name("test", &["linux", "1.95"]), "test.linux_1.95");
        assert_eq!(name("test", &["a_b"]), "test.a_b");
        let all = [
            name("test", &["a_b", "c"]),
            name("test", &["a", "b_c"]),
            name("test", &["a/b"]),
            name("test", &["a:b"]),
            name("test", &[""]),
            name("test", &["x."]),
            name("test", &["x"]),
            name("test", &[&"v".repeat(60)]),
            name("test", &[&"v".repeat(61)]),
            name(&"j".repeat(63), &["x"]),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        for name in &all {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            assert!(name.len() <= MAX_LABEL && name.chars().all(fits), "{name}");
            assert!(
                name.ends_with(|c: char| c.is_ascii_alphanumeric()),
                "{name}"
            );
            assert!(name.contains('.'), "{name}");
        }
        // Written out: names must stay the same over versions.
        assert_eq!(all[2], "test.a_b-fayvusemq7");
    }

    #[test]
    fn the_run_of_a_generation_is_named_after_both() {
        assert_eq!(applied_run("build", 7), "build-g7");
        let long = "p".repeat(253);
        assert!(is_label(&applied_run(&long, i64::MAX)));
        assert_ne!(applied_run(&long, 1), applied_run(&format!("{long}q"), 1));
    }

    #[test]
    fn the_run_of_a_schedule_is_named_after_pipeline_time_and_schedule() {
        let id = schedule("0 3 * * *", None);
        assert_ne!(id, schedule("0 3 * * *", Some("Europe/Berlin")));
        let name = scheduled_run(&"p".repeat(253), &id, i64::MAX / 60);
        assert!(is_label(&name), "{name}");
        assert_ne!(scheduled_run("p", &id, 1), scheduled_run("p", &id, 2));
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["build", "test", "deploy"];
        assert_eq!(nearest("biuld", names), Some("build"));
        assert_eq!(nearest("Test", names), Some("test"));
        assert_eq!(nearest("deplyo", names), Some("deploy"));
        assert_eq!(nearest("lint", names), None);
        assert_eq!(nearest("x", ["y"]), None);
    }
}
