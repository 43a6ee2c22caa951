//! The model explored: the product keeps the promise, and each mutant breaks it.

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model as _};

use crate::{
    is_long,
    proof::proof,
    protocol::{
        Action, Bounds, Protocol,
        state::{Budget, State},
        wiring::{MUTANTS, PRODUCT},
    },
};

/// Two generations and two crashes, and beside them other things that go wrong.
fn bounds(crashes: u8, clock_changes: u8, damages: u8) -> Bounds {
    Bounds {
        generations: 2,
        budget: Budget { crashes, clock_changes, damages },
        keep: 1,
        max_waiting: 1,
        keep_for: Duration::ZERO,
    }
}

/// Explores all of it, and prints how much that was.
fn explore(what: &str, bounds: Bounds) {
    let protocol = Protocol { wiring: PRODUCT, bounds };
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{what}: {states} states, {} transitions, depth {}", checker.state_count(), checker.max_depth());
    for (property, path) in checker.discoveries() {
        if checker
            .model()
            .properties()
            .iter()
            .any(|p| p.name == property && p.expectation == stateright::Expectation::Always)
        {
            panic!("{property}\n{}", told(path));
        }
    }
    checker.assert_properties();
    proof("the protocol: states of the model", states, 0);
}

#[test]
fn the_promise_holds_whatever_is_cut_lost_and_repeated() {
    explore("two crashes", bounds(2, 0, 0));
    if is_long() {
        explore("three crashes", bounds(3, 0, 0));
    }
}

#[test]
fn the_promise_holds_where_content_is_spoiled_and_clocks_jump() {
    explore("one crash, spoiled content", bounds(1, 0, 1));
    explore("one crash, a clock that jumps", bounds(1, 1, 0));
    if is_long() {
        explore("two crashes, a clock that jumps, spoiled content", bounds(2, 1, 1));
    }
}

#[test]
fn each_mutant_breaks_a_property() {
    println!("{:<26}{:>7} states  property that it breaks", "mutant", "");
    for (wiring, property) in MUTANTS {
        let protocol = Protocol { wiring, bounds: bounds(2, 0, 1) };
        let only = HasDiscoveries::AnyOf([property].into());
        let checker = protocol.checker().threads(2).finish_when(only).spawn_bfs().join();
        assert!(checker.discovery(property).is_some(), "{}: nothing noticed", wiring.name);
        println!("{:<26}{:>7} states  {property}", wiring.name, checker.unique_state_count());
    }
}

/// A way to a state, a line for each step, and what is in it.
fn told(path: stateright::Path<State, Action>) -> String {
    let steps = path.into_vec();
    let mut text = String::new();
    for (state, action) in &steps {
        let doing = (state.collector, state.gate, state.sink);
        text += &format!("{doing:?} -> {action:?}\n");
    }
    let last = steps.last().map(|(state, _)| state);
    text + &format!("{:#?}", last.map(|s| s.gens.iter().filter(|g| g.id.is_some()).collect::<Vec<_>>()))
}
