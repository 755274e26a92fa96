//! The graph of jobs that `needs` makes.
//! Must not know states of jobs.

use std::collections::BTreeMap;

/// Jobs and what they need, by index. Free of cycles.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Graph {
    needs: Vec<Vec<usize>>,
    order: Vec<usize>,
}

/// A circle of jobs that wait for each other: `a` needs `b`, ..., the last needs `a`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cycle(pub Vec<usize>);

impl Graph {
    /// Builds the graph of jobs with these names and needs. Needs that name no job are left out:
    /// they are another check's problem.
    pub fn new<'a, J, N>(jobs: J) -> Result<Self, Cycle>
    where
        J: IntoIterator<Item = (&'a str, N)>,
        N: IntoIterator<Item = &'a str>,
    {
        let (names, wanted): (Vec<_>, Vec<Vec<_>>) = jobs
            .into_iter()
            .map(|(name, needs)| (name, needs.into_iter().collect()))
            .unzip();
        // Of two jobs with one name the first counts; the other is another check's problem.
        let index: BTreeMap<_, _> = names
            .iter()
            .enumerate()
            .rev()
            .map(|(i, n)| (*n, i))
            .collect();
        let needs: Vec<Vec<usize>> = wanted
            .iter()
            .map(|needs| {
                needs
                    .iter()
                    .filter_map(|need| index.get(need).copied())
                    .collect()
            })
            .collect();
        match order(&needs) {
            Ok(order) => Ok(Self { needs, order }),
            Err(stuck) => Err(cycle(&needs, &stuck)),
        }
    }

    /// The jobs that a job needs itself.
    pub fn needs(&self, job: usize) -> &[usize] {
        &self.needs[job]
    }

    /// The jobs in an order in which each stands after those that it needs.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// For one job, whether it needs each job, directly or through others.
    pub fn reaches(&self, job: usize) -> Vec<bool> {
        let mut reached = vec![false; self.needs.len()];
        let mut open = self.needs[job].clone();
        while let Some(next) = open.pop() {
            if !std::mem::replace(&mut reached[next], true) {
                open.extend(&self.needs[next]);
            }
        }
        reached
    }
}

/// Kahn's algorithm, stable: of the jobs that could come next the first in the pipeline does.
/// On a cycle, which jobs could not be placed.
fn order(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<bool>> {
    let mut dependents = vec![Vec::new(); needs.len()];
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (job, needed) in needs.iter().enumerate() {
        needed.iter().for_each(|need| dependents[*need].push(job));
    }
    let mut ready: std::collections::BTreeSet<usize> =
        (0..needs.len()).filter(|job| missing[*job] == 0).collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some(job) = ready.pop_first() {
        order.push(job);
        for dependent in &dependents[job] {
            missing[*dependent] -= 1;
            if missing[*dependent] == 0 {
                ready.insert(*dependent);
            }
        }
    }
    if order.len() == needs.len() {
        Ok(order)
    } else {
        Err(missing.iter().map(|count| *count > 0).collect())
    }
}

/// Walks from a stuck job along stuck needs until one comes again.
fn cycle(needs: &[Vec<usize>], stuck: &[bool]) -> Cycle {
    let mut path: Vec<usize> = Vec::new();
    let mut job = stuck
        .iter()
        .position(|stuck| *stuck)
        .expect("a graph without order has one");
    loop {
        if let Some(start) = path.iter().position(|seen| *seen == job) {
            return Cycle(path.split_off(start));
        }
        path.push(job);
        job = *needs[job]
            .iter()
            .find(|need| stuck[**need])
            .expect("a stuck job needs a stuck job, else it could have been placed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(jobs: &[(&'static str, &[&'static str])]) -> Result<Graph, Cycle> {
        Graph::new(
            jobs.iter()
                .map(|(name, needs)| (*name, needs.iter().copied())),
        )
    }

    #[test]
    fn each_job_stands_after_those_that_it_needs() {
        let graph = graph(&[("d", &["b", "c"]), ("b", &["a"]), ("c", &["a"]), ("a", &[])]).unwrap();
        assert_eq!(graph.order(), [3, 1, 2, 0]);
        assert_eq!(graph.needs(0), [1, 2]);
    }

    #[test]
    fn needs_are_followed_through_other_jobs() {
        let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("x", &[])]).unwrap();
        assert_eq!(graph.reaches(2), [true, true, false, false]);
        assert_eq!(graph.reaches(0), [false; 4]);
    }

    #[test]
    fn a_cycle_is_named_without_the_jobs_that_only_wait_for_it() {
        let found = graph(&[
            ("w", &["a"]),
            ("a", &["b"]),
            ("b", &["c"]),
            ("c", &["a"]),
            ("z", &[]),
        ]);
        assert_eq!(found, Err(Cycle(vec![1, 2, 3])));
        assert_eq!(graph(&[("a", &["a"])]), Err(Cycle(vec![0])));
    }

    #[test]
    fn unknown_needs_are_left_to_the_check_of_names() {
        assert_eq!(
            graph(&[("a", &["nope"])]).unwrap().needs(0),
            [] as [usize; 0]
        );
    }
}
