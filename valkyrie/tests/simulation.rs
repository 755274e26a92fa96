//! A client and a server as pure machines over a faulty network, in virtual time, by seeds.
//! Must not sleep or read a clock beyond one first instant: the same seed gives the same run.
//!
//! One seed again, with its trace:
//! `VALKYRIE_SEED=7 cargo test -p valkyrie --test simulation -- --exact one_seed --ignored --nocapture`
//! A million seeds:
//! `VALKYRIE_SEEDS=1000000 cargo test -p valkyrie --test simulation -- --exact many --ignored --nocapture`
//! The same for kills of both ends of a log and of a transfer: `one_kill_seed`, `many_kills`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "simulation/kills/all.rs"]
mod kills;
#[path = "simulation/all.rs"]
mod simulation;

use std::panic::{AssertUnwindSafe, catch_unwind};

use simulation::choices::Choices;
use simulation::world::{Shown, World};

/// Runs one seed; a broken promise or a panic comes with the trace and how to see it again.
fn run(seed: u64) -> Result<Shown, String> {
    let once = |trace: bool| {
        let mut world = World::new(Choices::seeded(seed), trace);
        let result = caught(|| world.run());
        (result, world.log.lines)
    };
    once(false)
        .0
        .map_err(|broken| again(seed, &broken, &once(true).1, "one_seed"))
}

/// The same for kills.
fn run_kills(seed: u64) -> Result<kills::Shown, String> {
    let result = caught(|| kills::run(seed, &mut kills::Trace::default()));
    result.map_err(|broken| {
        let mut trace = kills::traced();
        let _ = caught(|| kills::run(seed, &mut trace));
        again(seed, &broken, &trace.lines, "one_kill_seed")
    })
}

fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let result = catch_unwind(AssertUnwindSafe(run));
    result.unwrap_or_else(|_| Err("a machine panicked".to_owned()))
}

fn again(seed: u64, broken: &str, lines: &[String], test: &str) -> String {
    format!(
        "seed {seed}: {broken}\n{}\nagain: VALKYRIE_SEED={seed} cargo test -p valkyrie \
         --test simulation -- --exact {test} --ignored --nocapture",
        lines.join("\n")
    )
}

/// Runs seeds on all processors; the sum of what they have shown, or the first that fails.
fn run_all<S: Default + Send + 'static>(
    seeds: std::ops::Range<u64>,
    run: fn(u64) -> Result<S, String>,
    add: fn(&mut S, S),
) -> Result<S, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let workers: Vec<_> = (0..threads)
        .map(|first| {
            let seeds = seeds.clone();
            std::thread::spawn(move || {
                let mut sum = S::default();
                for seed in seeds.skip(first as usize).step_by(threads as usize) {
                    add(&mut sum, run(seed)?);
                }
                Ok::<_, String>(sum)
            })
        })
        .collect();
    let mut sum = S::default();
    for worker in workers {
        add(&mut sum, worker.join().unwrap()?);
    }
    Ok(sum)
}

impl Shown {
    fn add(&mut self, other: Shown) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.resent += other.resent;
        self.unavailable += other.unavailable;
        self.late += other.late;
        self.resumed += other.resumed;
        self.moved += other.moved;
        self.one_host += other.one_host;
        self.one_way += other.one_way;
        self.bytes += other.bytes;
        self.events += other.events;
    }
}

#[test]
fn ten_thousand_seeds_keep_every_promise() {
    let shown = run_all(0..10_000, run, Shown::add).unwrap_or_else(|broken| panic!("{broken}"));
    // The faults were there: otherwise the run has shown nothing.
    let enough = shown.answered > 20_000
        && shown.resent > 500
        && shown.unavailable > 500
        && shown.late > 500
        && shown.resumed > 5_000
        && shown.moved > 500
        && shown.one_host > 1_000
        && shown.one_way > 1_000
        && shown.bytes > 1_000_000;
    assert!(enough, "{shown:?}");
}

#[test]
fn ten_thousand_seeds_of_kills_lose_and_double_nothing() {
    let shown = run_all(0..10_000, run_kills, kills::Shown::add);
    let shown = shown.unwrap_or_else(|broken| panic!("{broken}"));
    let kills::Shown {
        sender_kills,
        receiver_kills,
        cuts,
        damages,
        torn,
        overlaps,
        bytes,
    } = shown;
    // The faults were there: otherwise the run has shown nothing.
    let kinds = [sender_kills, receiver_kills, cuts];
    let enough = kinds.iter().all(|count| *count > 10_000)
        && [damages, torn, overlaps].iter().all(|count| *count > 500)
        && bytes > 10_000_000;
    assert!(enough, "{shown:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let lines = |seed| {
        let mut world = World::new(Choices::seeded(seed), true);
        world.run().unwrap_or_else(|broken| panic!("{broken}"));
        world.log.lines
    };
    assert_eq!(lines(7), lines(7));
    assert_ne!(lines(7), lines(8));
    let kills = |seed| {
        let mut trace = kills::traced();
        let shown = kills::run(seed, &mut trace).unwrap_or_else(|broken| panic!("{broken}"));
        (shown, trace.lines)
    };
    assert_eq!(kills(7), kills(7));
    assert_ne!(kills(7), kills(8));
}

#[test]
#[ignore = "for a failing seed: set VALKYRIE_SEED"]
fn one_seed() {
    let seed = std::env::var("VALKYRIE_SEED").unwrap().parse().unwrap();
    let mut world = World::new(Choices::seeded(seed), true);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    #[allow(clippy::print_stdout, reason = "what the command is for")]
    {
        println!("{}\n{result:?}", world.log.lines.join("\n"));
    }
    assert!(matches!(result, Ok(Ok(_))), "seed {seed} fails");
}

#[test]
#[ignore = "for a failing seed: set VALKYRIE_SEED"]
fn one_kill_seed() {
    let seed = std::env::var("VALKYRIE_SEED").unwrap().parse().unwrap();
    let mut trace = kills::traced();
    let result = caught(|| kills::run(seed, &mut trace));
    #[allow(clippy::print_stdout, reason = "what the command is for")]
    {
        println!("{}\n{result:?}", trace.lines.join("\n"));
    }
    assert!(result.is_ok(), "seed {seed} fails");
}

#[test]
#[ignore = "takes minutes: set VALKYRIE_SEEDS"]
fn many() {
    show_many(run, Shown::add);
}

#[test]
#[ignore = "takes minutes: set VALKYRIE_SEEDS"]
fn many_kills() {
    show_many(run_kills, kills::Shown::add);
}

fn show_many<S: Default + std::fmt::Debug + Send + 'static>(
    run: fn(u64) -> Result<S, String>,
    add: fn(&mut S, S),
) {
    let count = std::env::var("VALKYRIE_SEEDS").unwrap_or_else(|_| "1000000".to_owned());
    let shown = run_all(0..count.parse().unwrap(), run, add);
    let shown = shown.unwrap_or_else(|broken| panic!("{broken}"));
    #[allow(clippy::print_stdout, reason = "what the command is for")]
    {
        println!("{count} seeds: {shown:?}");
    }
}
