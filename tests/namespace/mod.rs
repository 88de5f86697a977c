//! Network namespaces for tests: each test has its own, and further ones for the machines around
//! the router. They end with the test.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// Runs a test as the only inhabitant of a new network namespace: on a thread of its own, since
/// that is what a namespace belongs to.
pub(crate) fn alone<T>(test: impl FnOnce() -> T + Send + 'static)
where
    T: Future<Output = ()>,
{
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .unwrap_or_else(|error| panic!("needs root, to make a network namespace: {error}"));
        // /sys/class/net shows the namespace that mounted it.
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        mount(
            Some("sysfs"),
            "/sys",
            Some("sysfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Another machine: a namespace that a child process holds.
pub(crate) struct Machine(Child);

impl Machine {
    /// With nothing but the loopback device.
    pub(crate) fn new() -> Self {
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-c",
                "ip link set lo up && echo ready && exec cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 5];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        assert_eq!(&ready, b"ready");
        Self(child)
    }

    /// What `ip link set … netns` takes.
    pub(crate) fn netns(&self) -> u32 {
        self.0.id()
    }

    /// Runs `ip`, `tc` or another program there.
    pub(crate) fn run(&self, command: &str) -> String {
        run(&format!(
            "nsenter --net=/proc/{}/ns/net {command}",
            self.netns()
        ))
    }

    /// Runs a thread there.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.netns())).unwrap();
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program in this namespace and returns what it printed.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// `ip …` in this namespace.
pub(crate) fn ip(arguments: &str) {
    run(&format!("ip {arguments}"));
}

/// `tc …` in this namespace.
pub(crate) fn tc(arguments: &str) -> String {
    run(&format!("tc {arguments}"))
}

/// Sets a `net.…` sysctl of this namespace.
pub(crate) fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    File::create(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .expect(&path);
}
