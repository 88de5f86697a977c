//! One session that changes among many, from the backend's answer to the kernel.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::row::{Row, note};
use super::sample::Sample;
use super::sessions;
use super::site::Site;

const MANY: usize = 256;
const CHANGES: usize = 40;
/// Beyond the time in which the agent gathers changes.
const PAUSE: Duration = Duration::from_millis(170);

pub fn measure() {
    let mut list = sessions::with_ports(MANY);
    let site = Site::with_marks(&list);
    let script = site.script.as_ref().unwrap();
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..CHANGES {
        thread::sleep(PAUSE);
        let session = &mut list[7 + round];
        if round % 2 == 0 {
            session["expiresIn"] = json!(7200);
        } else {
            session["dscp"] = json!(34);
        }
        let start = Instant::now();
        let revision = script.serve(&json!({ "queues": "off", "sessions": list }));
        script.wait_status("the change", Duration::from_secs(10), |status| {
            status["revision"] == revision
        });
        let reported = script.reported_at(revision).unwrap();
        times[round % 2].push(reported - start);
    }
    for (what, times) in ["its end", "its code point"].into_iter().zip(&times) {
        let sample = Sample::millis(times);
        Row::new(
            format!("change of one session among {MANY}, {what}"),
            format!(
                "median {:.1} ms, max {:.1} ms",
                sample.median(),
                sample.max()
            ),
        )
        .promised("median at most 15 ms", sample.median() <= 15.0)
        .print();
    }
    note(format!(
        "change: {CHANGES} changes, from the moment in which the backend has the new state to the arrival of the \
         report that it is in force, so the long poll's answer, reading back and reporting are in it"
    ));
}
