//! What a process takes, as /proc tells it.

use std::fs;
use std::time::Duration;

/// Resident memory in bytes.
pub fn resident(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:") * 1024
}

/// Memory of its own, in bytes: not shared with a file.
pub fn anonymous(pid: u32) -> u64 {
    status_kib(pid, "RssAnon:") * 1024
}

/// The most that was ever resident, in bytes.
pub fn peak(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:") * 1024
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let words = line.unwrap_or_else(|| panic!("no {field}"));
    words.split_whitespace().next().unwrap().parse().unwrap()
}

/// Open descriptors.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// How often its threads went to sleep: each wake-up ends in one.
pub fn sleeps(pid: u32) -> u64 {
    of_threads(pid, "status", |text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    })
}

/// Processor time of all threads, in the kernel and outside.
pub fn processor_time(pid: u32) -> Duration {
    let nanos = of_threads(pid, "schedstat", |text| {
        text.split_whitespace().next().unwrap().parse().unwrap()
    });
    Duration::from_nanos(nanos)
}

/// The sum over the threads that are there. One that ends meanwhile takes its part with it.
fn of_threads(pid: u32, file: &str, read: impl Fn(&str) -> u64) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let texts =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join(file)).ok());
    texts.map(|text| read(&text)).sum()
}
