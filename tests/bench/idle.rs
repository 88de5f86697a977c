//! What an agent takes that has sessions and nothing to do.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::lab::proc;
use super::row::{Row, note};
use super::sessions;
use super::site::Site;

const WATCHED: Duration = Duration::from_secs(130);

pub fn measure() {
    let instructions = json!({ "sessions": sessions::with_ports(20) });
    let site = Site::with_usual_times(&instructions);
    let pid = site.agent.as_ref().unwrap().process.pid();
    let calls = site.script.as_ref().unwrap();
    thread::sleep(Duration::from_secs(3));
    let (before, sleeps, told) = (
        proc::processor_time(pid),
        proc::sleeps(pid),
        calls.calls().len(),
    );
    thread::sleep(WATCHED);
    let time = proc::processor_time(pid) - before;
    let hour = time.as_secs_f64() * 3600.0 / WATCHED.as_secs_f64();
    Row::new(
        "processor time of an idle hour, 20 sessions",
        format!("{hour:.2} s"),
    )
    .print();
    Row::new(
        format!("wake-ups in {} s", WATCHED.as_secs()),
        proc::sleeps(pid) - sleeps,
    )
    .baseline(format!("{} polls and reports", calls.calls().len() - told))
    .print();
    note(format!(
        "idle: measured for {} s with polls of 50 s and reports every 60 s, and multiplied to an hour; a call \
         wakes several threads several times, and between calls nothing does (tests/idle.rs)",
        WATCHED.as_secs()
    ));
}
