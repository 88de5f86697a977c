//! The figures that are promised, measured: `scripts/bench.sh` runs it and prints them as a table.
//!
//! Each measurement makes its own homes and has its baseline in the same run. Nothing here is a test:
//! on a busy machine a figure may be missed for no fault of the agent's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program for the scripts of this repository: what cannot be measured must end it loudly"
)]
#![allow(
    unreachable_pub,
    reason = "a program has no users of its items, and its modules are small"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod backend;
mod backend_load;
mod backend_polls;
mod bystander;
mod change;
mod commit;
mod cost;
mod ending;
mod footprint;
mod idle;
mod lan;
mod linear;
mod operator;
mod order;
mod package;
mod round_trip;
mod rounds;
mod row;
mod sample;
mod session_flow;
mod sessions;
mod site;

use std::env;

const ALL: &[(&str, fn())] = &[
    ("order", order::measure),
    ("commit", commit::measure),
    ("change", change::measure),
    ("bystander", bystander::measure),
    ("session-flow", session_flow::measure),
    ("round-trip", round_trip::measure),
    ("lan", lan::measure),
    ("ending", ending::measure),
    ("footprint", footprint::measure),
    ("package", package::measure),
    ("idle", idle::measure),
    ("backend", backend::measure),
];

fn main() {
    let name = env::args().nth(1).unwrap_or_default();
    if name == "list" {
        for (name, _) in ALL {
            println!("{name}");
        }
        return;
    }
    let Some((_, measure)) = ALL.iter().find(|(known, _)| *known == name) else {
        eprintln!("bench: no measurement {name:?}; `bench list` names them");
        std::process::exit(2);
    };
    measure();
}
