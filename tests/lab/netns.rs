//! Network namespaces that live as long as the value that names them.

use std::fs::{self, File};
use std::io::Write;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Uid;

/// Where `ip netns` keeps the names.
const FOLDER: &str = "/run/netns";
/// Every namespace of the laboratory is called `qod<pid of its owner>.<number>.<role>`.
const PREFIX: &str = "qod";

/// One network namespace; deleted when dropped, also by a panic.
pub struct Netns {
    name: String,
    kept: bool,
}

impl Netns {
    /// Makes one namespace per role; `group` is a name from [`new_group`].
    pub fn make<const N: usize>(group: &str, roles: [&str; N]) -> [Self; N] {
        assert!(
            Uid::effective().is_root(),
            "CANNOT RUN HERE: network namespaces need root"
        );
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        // The values come first: what a failing batch has made is deleted too.
        let all = roles.map(|role| Self {
            name: format!("{group}.{role}"),
            kept: false,
        });
        let batch: String = all
            .iter()
            .map(|netns| format!("netns add {}\n", netns.name))
            .collect();
        feed(Command::new("ip").args(["-batch", "-"]), &batch);
        all
    }

    /// The namespace that another process made.
    pub fn existing(name: &str) -> Self {
        let netns = Self {
            name: name.to_owned(),
            kept: true,
        };
        assert!(netns.path().exists(), "no network namespace {name}");
        netns
    }

    /// Leaves the namespace behind for other processes.
    pub fn keep(mut self) {
        self.kept = true;
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Moves the calling thread, and the threads and processes that it starts, into the namespace.
    pub fn enter(&self) {
        let file = File::open(self.path()).unwrap();
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Runs `job` on a thread inside the namespace. A panic of the job is the caller's.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                self.enter();
                job()
            });
            done.join()
                .unwrap_or_else(|cause| panic::resume_unwind(cause))
        })
    }

    /// Starts a thread inside the namespace that may outlive the caller.
    pub fn spawn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = File::open(self.path()).unwrap();
        thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            job()
        })
    }

    /// A command inside the namespace. `ip` replaces itself by it, so its pid is the child's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// `ip -batch`, one line per command.
    pub fn ip(&self, batch: &str) {
        feed(
            Command::new("ip").args(["-netns", &self.name, "-batch", "-"]),
            batch,
        );
    }

    /// `tc -batch`.
    pub fn tc(&self, batch: &str) {
        feed(
            Command::new("tc").args(["-netns", &self.name, "-batch", "-"]),
            batch,
        );
    }

    /// `nft -f -`: one transaction.
    pub fn nft(&self, ruleset: &str) {
        feed(self.command("nft").args(["-f", "-"]), ruleset);
    }

    /// What a command prints inside the namespace; its failure is a panic.
    pub fn output(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{program} {args:?} in {}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes files below `/proc/sys/net`, which shows the namespace of the thread that looks.
    pub fn sysctl(&self, settings: &[(&str, &str)]) {
        self.run(|| {
            for (name, value) in settings {
                let path = Path::new("/proc/sys/net").join(name);
                fs::write(&path, value).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
        });
    }

    /// Packets that a device has received.
    pub fn received(&self, device: &str) -> u64 {
        self.run(|| received_here(device))
    }
}

/// Packets that a device of the calling thread's namespace has received.
pub fn received_here(device: &str) -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(&format!("{device}:")))
        .unwrap_or_else(|| panic!("no device {device}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.kept {
            delete(&self.path());
        }
    }
}

/// A name for a group of namespaces that no other group has.
pub fn new_group() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{PREFIX}{}.{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Names of all namespaces of a group.
pub fn members(group: &str) -> Vec<String> {
    names()
        .filter(|name| {
            name.strip_prefix(group)
                .is_some_and(|rest| rest.starts_with('.'))
        })
        .collect()
}

/// Deletes the namespaces of a group.
pub fn delete_group(group: &str) {
    for name in members(group) {
        delete(&Path::new(FOLDER).join(name));
    }
}

/// Deletes what owners left that died without their destructors.
fn sweep() {
    for name in names() {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let Some((Ok(owner), _)) = rest.split_once('.').map(|(n, r)| (n.parse::<u32>(), r)) else {
            continue;
        };
        if !Path::new("/proc").join(owner.to_string()).exists() {
            delete(&Path::new(FOLDER).join(name));
        }
    }
}

fn names() -> impl Iterator<Item = String> {
    fs::read_dir(FOLDER)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn delete(path: &Path) {
    // Whoever is still inside keeps the namespace itself alive; the name goes now.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

/// Runs a command with `input`; its failure is a panic with what it said.
fn feed(command: &mut Command, input: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    // A command that ends before it has read everything says why on stderr.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{input}",
        String::from_utf8_lossy(&output.stderr)
    );
}
