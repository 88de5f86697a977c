//! One session that changes among many, from the backend's answer to the kernel.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::lab::generation::Generations;
use super::lab::script::Reply;
use super::row::{Row, note};
use super::sample::Sample;
use super::sessions;
use super::site::Site;

const MANY: usize = 256;
const CHANGES: usize = 40;
/// Beyond the time in which the agent gathers changes.
const PAUSE: Duration = Duration::from_millis(170);
const LIMIT: Duration = Duration::from_secs(10);

pub fn measure() {
    let mut list = sessions::with_ports(MANY);
    let site = Site::with_marks(&list);
    let script = site.script.as_ref().unwrap();
    let (mut in_kernel, mut reported) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..CHANGES {
        thread::sleep(PAUSE);
        let session = &mut list[7 + round];
        if round % 2 == 0 {
            session["expiresIn"] = json!(7200);
        } else {
            session["dscp"] = json!(34);
        }
        let revision = 1_000 + round as u64;
        let body = json!({ "revision": revision, "queues": "off", "sessions": list });
        let reply = Reply {
            tag: revision.to_string(),
            body: body.to_string().into_bytes(),
            ..Reply::bare(200)
        };
        let transactions = Generations::listen(&site.home.router);
        let start = Instant::now();
        script.serve_raw(reply);
        in_kernel[round % 2].push(transactions.next(LIMIT) - start);
        script.wait_status("the change", LIMIT, |status| status["revision"] == revision);
        reported.push(script.reported_at(revision).unwrap() - start);
    }
    for (what, times) in ["its end", "its code point"].into_iter().zip(&in_kernel) {
        let sample = Sample::millis(times);
        Row::new(
            format!("one session changes among {MANY}, {what}: answer to kernel"),
            show(&sample),
        )
        .promised("median at most 15 ms", sample.median() <= 15.0)
        .print();
    }
    Row::new(
        "the same: answer to report",
        show(&Sample::millis(&reported)),
    )
    .print();
    note(format!(
        "one session changes: {CHANGES} times, from the moment in which the backend may answer the held poll to the \
         kernel's word that the transaction is done, and to the arrival of the report"
    ));
}

fn show(sample: &Sample) -> String {
    format!(
        "median {:.1} ms, max {:.1} ms",
        sample.median(),
        sample.max()
    )
}
