//! Whether the kernel killed a process of this container for want of memory.
//! Must not be asked outside a container: there the counter belongs to others as well.

/// Where the container's own cgroup shows its counter: version 2, then version 1
/// (kernel documentation, cgroup-v2.rst "memory.events" and cgroup-v1/memory.rst "oom_control").
const FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
];

/// Kills for want of memory so far; none when this is not a container's first process or the
/// kernel shows no counter.
pub(crate) fn oom_kills() -> Option<u64> {
    if std::process::id() != 1 {
        return None;
    }
    FILES
        .iter()
        .find_map(|file| count(&std::fs::read_to_string(file).ok()?))
}

fn count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read_in_both_forms() {
        let version_1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let version_2 = "low 0\nhigh 0\nmax 12\noom 4\noom_kill 2\noom_group_kill 0\n";
        assert_eq!((count(version_1), count(version_2)), (Some(3), Some(2)));
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }
}
