//! Hostile bytes against every parser and machine: the corpus, a short run with a fixed seed,
//! and a long one on demand. Must not need nightly, a C compiler or an instrumented build.
//!
//! Guided by outcomes instead of branches: each target returns a number that names what the
//! input led to, and an input with a new one is mutated further.
//!
//! Ten minutes on all targets, or on one:
//! `FUZZ_MINUTES=10 cargo test -p valkyrie --test fuzz -- for_minutes --ignored --nocapture`
//! `FUZZ_TARGET=frames FUZZ_MINUTES=10 ...`
//! A failing input is made smaller and written into its target's corpus, so that the normal
//! tests fail until it is fixed. `FUZZ_SAVE=8` also adds up to so many new inputs per target.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod mutate;
#[path = "../tests/simulation/all.rs"]
mod simulation;
mod targets;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutate::Mutator;
use targets::{TARGETS, Target};

/// Inputs kept for further mutation, per target; when full, new ones replace random ones.
const POOL: usize = 4096;
/// Longest input.
const MOST: usize = 4096;

fn folder(target: &Target) -> PathBuf {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    corpus.join(target.name)
}

/// The committed inputs of a target, by file name.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let mut inputs: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap();
            let name = file.file_name().into_string().unwrap();
            (name, unhex(&text))
        })
        .collect();
    inputs.sort();
    inputs
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn save(target: &Target, kind: &str, input: &[u8]) -> PathBuf {
    let name = blake3::hash(input).to_hex();
    let path = folder(target).join(format!("{kind}-{}.hex", &name[..12]));
    let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<_> = hex
        .as_bytes()
        .chunks(80)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    std::fs::create_dir_all(folder(target)).unwrap();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

/// What an input leads to; none when it breaks a promise.
fn outcome(target: &Target, input: &[u8]) -> Option<u64> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).ok()
}

/// A smaller input that fails as well.
fn shrink(target: &Target, input: &[u8]) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut size = best.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < best.len() {
            let mut shorter = best.clone();
            shorter.drain(at..(at + size).min(shorter.len()));
            if outcome(target, &shorter).is_none() {
                best = shorter;
            } else {
                at += size;
            }
        }
        if size == 1 {
            return best;
        }
        size = size.div_ceil(2);
    }
}

/// A target's run in progress.
struct Hunt<'a> {
    target: &'a Target,
    pool: Vec<Vec<u8>>,
    seen: HashSet<u64>,
    mutator: Mutator,
    tried: u64,
    found: Vec<Vec<u8>>,
}

impl<'a> Hunt<'a> {
    fn new(target: &'a Target, seed: u64) -> Self {
        let mut hunt = Self {
            target,
            pool: Vec::new(),
            seen: HashSet::new(),
            mutator: Mutator::new(seed),
            tried: 0,
            found: Vec::new(),
        };
        let inputs = corpus(target).into_iter().map(|(_, input)| input);
        for input in inputs.chain([(target.example)()]) {
            hunt.attempt(input);
        }
        hunt.found.clear();
        hunt
    }

    fn step(&mut self) {
        let pick = self.mutator.below(self.pool.len());
        let other = self.mutator.below(self.pool.len());
        let (one, two) = (self.pool[pick].clone(), &self.pool[other]);
        let mut input = self.mutator.mutate(one, two);
        input.truncate(MOST);
        self.attempt(input);
    }

    fn attempt(&mut self, input: Vec<u8>) {
        self.tried += 1;
        let name = self.target.name;
        let Some(outcome) = outcome(self.target, &input) else {
            let small = shrink(self.target, &input);
            let path = save(self.target, "failure", &small);
            panic!("target {name} failed; the input is in {}", path.display());
        };
        if !self.seen.insert(outcome) && !self.pool.is_empty() {
            return;
        }
        self.found.push(input.clone());
        if self.pool.len() < POOL {
            self.pool.push(input);
        } else {
            let place = self.mutator.below(POOL);
            self.pool[place] = input;
        }
    }
}

#[test]
fn every_input_of_the_corpus_keeps_every_promise() {
    for target in TARGETS {
        let inputs = corpus(target);
        assert!(inputs.len() >= 2, "{}: the corpus is empty", target.name);
        for (name, input) in inputs {
            let outcome = outcome(target, &input);
            assert!(outcome.is_some(), "{}/{name} fails", target.name);
        }
    }
}

#[test]
fn every_folder_of_the_corpus_belongs_to_a_target() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|t| t.name == name), "no target {name}");
    }
}

#[test]
fn everything_that_reads_a_peers_bytes_has_a_target() {
    let parsers = [
        "frames",
        "hello",
        "messages",
        "mux",
        "append",
        "token",
        "identity",
        "resume",
        "request-head",
        "connect-answer",
        "bootstrap",
    ];
    for name in parsers {
        assert!(TARGETS.iter().any(|t| t.name == name), "no target {name}");
    }
}

#[test]
fn a_short_run_with_a_fixed_seed_breaks_no_promise() {
    for target in TARGETS {
        let mut hunt = Hunt::new(target, 1);
        for _ in 0..target.short_run {
            hunt.step();
        }
        let outcomes = hunt.seen.len();
        assert!(outcomes >= 3, "{}: {outcomes} outcomes", target.name);
    }
}

#[test]
fn a_broken_promise_is_found_and_its_input_made_small() {
    fn fragile(input: &[u8]) -> u64 {
        assert!(!input.windows(2).any(|w| w == [0x42, 0x43]), "as built");
        input.len() as u64
    }
    let target = Target {
        name: "fragile",
        run: fragile,
        example: Vec::new,
        short_run: 0,
    };
    let input = [vec![7; 100], vec![0x42, 0x43], vec![9; 100]].concat();
    assert_eq!(outcome(&target, &input), None);
    assert_eq!(shrink(&target, &input), [0x42, 0x43]);
}

#[test]
#[ignore = "takes minutes: set FUZZ_MINUTES"]
fn for_minutes() {
    let number = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse().unwrap())
    };
    let minutes = number("FUZZ_MINUTES", 10);
    let keep = number("FUZZ_SAVE", 0) as usize;
    let only = std::env::var("FUZZ_TARGET").ok();
    let targets: Vec<_> = TARGETS
        .iter()
        .filter(|target| only.as_deref().is_none_or(|only| only == target.name))
        .collect();
    assert!(!targets.is_empty(), "no target {only:?}");
    let seed = number("FUZZ_SEED", std::process::id().into());
    let share = Duration::from_secs(minutes * 60) / targets.len() as u32;
    for target in targets {
        let mut hunt = Hunt::new(target, seed);
        let until = Instant::now() + share;
        while Instant::now() < until {
            (0..100).for_each(|_| hunt.step());
        }
        hunt.found.sort_by_key(Vec::len);
        if keep > 0 {
            save(target, "example", &(target.example)());
        }
        for input in hunt.found.iter().take(keep) {
            save(target, "found", input);
        }
        #[allow(clippy::print_stdout, reason = "what the command is for")]
        {
            let (tried, outcomes) = (hunt.tried, hunt.seen.len());
            println!(
                "{}: {tried} inputs, {outcomes} outcomes, seed {seed}",
                target.name
            );
        }
    }
}
