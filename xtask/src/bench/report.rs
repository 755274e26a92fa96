//! The figures as a table with the goals beside them.
//! Must not leave a missed goal out.

use super::{BURST, BURSTS, ROUNDS, STEPS};

/// What was measured: seconds, or API writes for one run.
pub(crate) struct Figures {
    pub(crate) pods: Vec<f64>,
    pub(crate) one_step: Vec<f64>,
    pub(crate) many_steps: Vec<f64>,
    pub(crate) local: Vec<f64>,
    pub(crate) our_writes: f64,
    pub(crate) cluster_writes: f64,
    pub(crate) pod_writes: f64,
    pub(crate) pod_bursts: Vec<f64>,
    pub(crate) run_bursts: Vec<f64>,
}

/// The section of `docs/benchmarks.md`.
pub(crate) fn markdown(figures: &Figures) -> String {
    let pod = median(&figures.pods);
    let one = median(&figures.one_step);
    let step = (median(&figures.many_steps) - one) / (STEPS - 1) as f64 * 1000.0;
    let rows = [
        (
            "bare pod, create -> Succeeded, p50 (spread)".to_owned(),
            spread(&figures.pods),
            String::new(),
            None,
        ),
        (
            "one-step run on a fresh pod, create -> Succeeded, p50 (spread)".to_owned(),
            format!(
                "{}; {:.2}x of the bare pod",
                spread(&figures.one_step),
                one / pod
            ),
            "<= 0.75x of a bare pod".to_owned(),
            Some(one / pod <= 0.75),
        ),
        (
            "extra step in a job".to_owned(),
            format!("{step:.1} ms"),
            "<= 20 ms".to_owned(),
            Some(step <= 20.0),
        ),
        (
            "API writes by the operator for a one-step run".to_owned(),
            format!("{:.1}", figures.our_writes),
            "<= 8".to_owned(),
            Some(figures.our_writes <= 8.0),
        ),
        (
            format!(
                "API writes in the whole cluster (a bare pod: {:.1})",
                figures.pod_writes
            ),
            format!("{:.1}", figures.cluster_writes),
            "<= 18".to_owned(),
            Some(figures.cluster_writes <= 18.0),
        ),
        (
            format!("{BURST} bare pods at once (spread)"),
            spread(&figures.pod_bursts),
            String::new(),
            None,
        ),
        (
            format!("{BURST} one-step runs at once, each on a fresh pod (spread)"),
            format!(
                "{}; {:.2}x of the bare pods",
                spread(&figures.run_bursts),
                median(&figures.run_bursts) / median(&figures.pod_bursts)
            ),
            "<= 10 s on 4 warm agents, which are still to come".to_owned(),
            None,
        ),
        (
            "local run of one step, whole program, p50 (spread)".to_owned(),
            spread(&figures.local),
            String::new(),
            None,
        ),
    ];
    let mut text = format!(
        "Written by `cargo xtask bench`, which starts the test cluster (Kubernetes and containerd \
         on this machine), installs a release build and measures on 2 shared cores. {ROUNDS} \
         rounds; bare pod, one-step run, run of {STEPS} steps and local run take turns in each \
         round. Times are seconds seen by a watching client. The image is there already; leases, \
         node heartbeats and token reviews are not counted as writes; the create of the run or pod \
         itself is. {BURST} at once are measured {BURSTS} times, in turns with bare pods.\n\n\
         | what | measured | goal | reached |\n|---|---|---|---|\n"
    );
    for (what, measured, goal, reached) in rows {
        let reached = match reached {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        text.push_str(&format!("| {what} | {measured} | {goal} | {reached} |\n"));
    }
    text.push_str(
        "\nOn their own: `cargo bench -p storage` measures durable log appends, \
         `cargo bench -p planner` a planner's turn.\n",
    );
    text
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}

fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    format!("{:.2} s ({low:.2} to {high:.2})", median(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_is_printed_as_such() {
        let figures = Figures {
            pods: vec![2.0, 1.0, 3.0],
            one_step: vec![2.0, 1.9, 2.1],
            many_steps: vec![2.1, 2.2, 2.3],
            local: vec![0.1],
            our_writes: 9.0,
            cluster_writes: 17.0,
            pod_writes: 10.0,
            pod_bursts: vec![40.0],
            run_bursts: vec![60.0],
        };
        let text = markdown(&figures);
        assert!(text.contains(
            "2.00 s (1.90 to 2.10); 1.00x of the bare pod | <= 0.75x of a bare pod | **no**"
        ));
        assert!(text.contains("10.0 ms | <= 20 ms | yes"));
        assert!(text.contains("| 9.0 | <= 8 | **no** |"));
    }
}
