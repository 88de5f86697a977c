//! An agent that has nothing to do does nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::thread::sleep;
use std::time::Duration;

use lab::home::{LAPTOP_MAC, LAPTOP_V4, LAPTOP_V6, PHONE_MAC, PHONE_V4, PHONE_V6};
use lab::site::{apply, script_address, sessions};
use lab::{Agent, Home, Script, agent, proc, wait};
use serde_json::json;

const WATCHED: Duration = Duration::from_secs(8);

#[test]
fn an_idle_agent_does_not_wake_up_between_poll_and_report() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let mut config = agent::config(&script.url());
    config["pollWaitSeconds"] = json!(55);
    config["reportIntervalSeconds"] = json!(600);
    let agent = Agent::start(&home.router, &config);
    // What the router knows of its devices does not age meanwhile, of which the kernel would tell.
    for (v4, v6, mac) in [
        (PHONE_V4, PHONE_V6, PHONE_MAC),
        (LAPTOP_V4, LAPTOP_V6, LAPTOP_MAC),
    ] {
        home.router.ip(&format!(
            "neigh replace {v4} lladdr {mac} dev br-lan nud permanent\n\
             neigh replace {v6} lladdr {mac} dev br-lan nud permanent\n"
        ));
    }
    apply(&script, &sessions());
    let pid = agent.process.pid();
    // Threads that wait for another call end after some seconds.
    let quiet = wait::until(Duration::from_secs(40), || {
        let before = proc::sleeps(pid);
        sleep(WATCHED);
        (proc::sleeps(pid) == before).then_some(())
    });
    assert!(quiet.is_some(), "it wakes up though nothing happens");
    let calls = script.calls().len();
    let (before, time) = (proc::sleeps(pid), proc::processor_time(pid));
    sleep(WATCHED);
    assert_eq!(proc::sleeps(pid), before, "woken in {WATCHED:?}");
    assert_eq!(proc::processor_time(pid), time);
    assert_eq!(script.calls().len(), calls);
}
