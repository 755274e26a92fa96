//! Every order of events of issuers, holders and a lossy network, on the machines themselves.
//! Must not describe a machine again: it calls `valkyrie::lease` and checks what comes of it.

#[path = "lease_model/world.rs"]
mod world;

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stateright::{Checker, Expectation, Model, Property};
use world::{Action, State, World};

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.act(&mut next, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one live attempt", |_, state: &State| {
                state.live() <= 1
            }),
            Property::always("a terminal state is written once", |_, state: &State| {
                state.endings <= 1
            }),
            Property::always("the fence never falls", |_, state: &State| {
                !state.fence_fell && state.store.fence.0 as usize <= state.issued
            }),
            Property::always("a fence starts at most once", |_, state: &State| {
                state.starts.iter().all(|count| *count <= 1)
            }),
            Property::always("what has not ended can be given again", World::is_not_stuck),
            Property::sometimes(FIRST, |_, state: &State| {
                state.store.ended && state.store.fence.0 == 1
            }),
            Property::sometimes(ANOTHER, |_, state: &State| {
                state.store.ended && state.store.fence.0 == 2
            }),
            Property::sometimes(LEADER, |_, state: &State| {
                state.store.ended && state.leaders == 2 && state.starts[0] == 1
            }),
        ]
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.tick <= self.ticks
    }
}

const FIRST: &str = "it ends at the first try";
const ANOTHER: &str = "it is given to another and ends";
const LEADER: &str = "it ends under another leader";

/// What was explored.
struct Explored {
    states: usize,
    /// Whether that is every state of the world.
    whole: bool,
}

/// Explores breadth first, all of the world or about the first so many steps. Nothing that must
/// hold may break, and each of these ends must be reached: else little was explored.
fn explore(world: World, most: usize, reached: &[&'static str]) -> Explored {
    let checker = world.checker().target_state_count(most);
    let checker = checker.spawn_bfs().join();
    for property in checker.model().properties() {
        if matches!(property.expectation, Expectation::Always) {
            checker.assert_no_discovery(property.name);
        }
    }
    for end in reached {
        checker.assert_any_discovery(end);
    }
    Explored {
        states: checker.unique_state_count(),
        whole: checker.state_count() < most,
    }
}

#[test]
fn one_issuer_and_one_holder_in_every_order() {
    let world = World {
        issuers: 1,
        holders: 1,
        ticks: 6,
        fences: 1,
        lag: 0,
        crashes: 1,
        overtaken: 1,
        ..World::default()
    };
    let explored = explore(world, 10_000_000, &[FIRST]);
    assert!(explored.whole && explored.states > 20_000);
}

#[test]
fn two_issuers_one_of_which_takes_over_in_every_order() {
    let world = World {
        issuers: 2,
        holders: 1,
        ticks: 4,
        fences: 1,
        lag: 0,
        crashes: 0,
        overtaken: 1,
        ..World::default()
    };
    let explored = explore(world, 10_000_000, &[FIRST, LEADER]);
    assert!(explored.whole && explored.states > 100_000);
}

#[test]
fn a_holder_after_another_in_every_order_of_the_first_events() {
    let world = World {
        issuers: 1,
        holders: 2,
        ticks: 6,
        fences: 2,
        lag: 0,
        crashes: 0,
        overtaken: 1,
        ..World::default()
    };
    let explored = explore(world, 400_000, &[FIRST, ANOTHER]);
    assert!(explored.states > 100_000);
}

#[test]
fn two_issuers_and_three_holders_in_every_order_of_the_first_events() {
    for holders in [2, 3] {
        let world = World {
            holders,
            ..World::default()
        };
        let explored = explore(world, 40_000, &[]);
        assert!(explored.states > 10_000, "only {} states", explored.states);
    }
}

/// What long walks have seen; without these they have shown nothing.
#[derive(Debug, Default)]
struct Seen {
    ended: usize,
    reissued: usize,
    other_leader: usize,
    crashed: usize,
}

/// A long random walk, then quiet until the item has ended.
fn walk(world: &World, seed: u64, steps: usize, seen: &mut Seen) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = world.clone();
    world.overtaken = [1, 2, 3, u64::MAX][random.random_range(0..4)];
    let world = &world;
    let mut state = world.start();
    let mut trace = Vec::new();
    let properties = world.properties();
    let broken = |state: &State, trace: &[Action]| {
        let always = properties
            .iter()
            .filter(|it| matches!(it.expectation, Expectation::Always));
        let mut broken = always.filter(|property| !(property.condition)(world, state));
        broken
            .next()
            .map(|property| format!("seed {seed}: {}: {trace:?} {state:?}", property.name))
    };
    for _ in 0..steps {
        let mut actions = Vec::new();
        world.possible(&state, &mut actions);
        let kinds: BTreeSet<_> = actions.iter().map(Action::kind).collect();
        let weights: u8 = kinds.iter().map(|(_, weight)| weight).sum();
        let mut at = random.random_range(0..weights);
        let kind = kinds.iter().find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let kind = *kind.expect("within the weights");
        actions.retain(|action| action.kind() == kind);
        let action = actions.swap_remove(random.random_range(0..actions.len()));
        world.act(&mut state, action.clone());
        trace.push(action);
        if let Some(broken) = broken(&state, &trace) {
            return Err(broken);
        }
    }
    seen.crashed += usize::from(state.crashes > 0);
    seen.other_leader += usize::from(state.leaders > 1);
    for round in 0.. {
        if state.store.ended {
            break;
        }
        world.quiet_round(&mut state);
        if let Some(broken) = broken(&state, &trace) {
            return Err(broken);
        }
        if round > 40 {
            return Err(format!("seed {seed}: does not end: {trace:?} {state:?}"));
        }
    }
    seen.ended += 1;
    seen.reissued += usize::from(state.store.fence.0 > 1);
    Ok(())
}

fn large() -> World {
    World {
        holders: 3,
        ticks: 100,
        fences: 100,
        crashes: 3,
        ..World::default()
    }
}

#[test]
fn through_long_walks_the_properties_hold_and_the_item_ends() {
    let (world, mut seen) = (large(), Seen::default());
    for seed in 0..1500 {
        walk(&world, seed, 120, &mut seen).expect("every property holds");
    }
    assert_eq!(seen.ended, 1500);
    let least = seen.reissued.min(seen.other_leader).min(seen.crashed);
    assert!(least > 200, "{seen:?}");
}

#[test]
fn the_walks_find_an_issuer_that_gives_an_item_again_too_soon() {
    let mut world = large();
    world.issuer_terms.ttl /= 2;
    let broken = |seed| walk(&world, seed, 120, &mut Seen::default()).err();
    let found = (0..1500).find_map(broken);
    let found = found.expect("its leases are shorter than those of its holders");
    assert!(found.contains("at most one live attempt"), "{found}");
}
