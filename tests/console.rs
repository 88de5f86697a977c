//! A machine's serial console as `qod-lab console` speaks to it, with a real shell behind a real terminal.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::Console;
use lab::console::{Answer, Fault};
use lab::folder::Folder;
use nix::pty::openpty;

const LIMIT: Duration = Duration::from_secs(10);
const MOST: usize = 1_000_000;

/// What the kernel says between two letters of the machine's output while it is noisy.
const MESSAGE: &[u8] = b"[   12.345678] br-lan: port 1(eth0) entered forwarding state\r\n";

/// A terminal with a program in it, served on a socket as QEMU serves a serial line: the socket is there before
/// the program speaks, and what is said while nobody is connected is lost.
struct Machine {
    folder: Folder,
    child: Child,
    noisy: Arc<AtomicBool>,
}

impl Machine {
    fn start(program: &[&str]) -> Self {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.path().join("console")).unwrap();
        let pty = openpty(None, None).unwrap();
        let slave = |fd: &OwnedFd| fd.try_clone().unwrap();
        // A script that runs this in its background has SIGINT ignored, and the shell would hand that on.
        let child = Command::new("env")
            .args(["--default-signal=INT", "setsid", "--ctty", "--wait"])
            .args(program)
            .env("PS1", "root@OpenWrt:/# ")
            .stdin(slave(&pty.slave))
            .stdout(slave(&pty.slave))
            .stderr(slave(&pty.slave))
            .spawn()
            .unwrap();
        let noisy = Arc::new(AtomicBool::new(false));
        serve(listener, File::from(pty.master), Arc::clone(&noisy));
        Self {
            folder,
            child,
            noisy,
        }
    }

    fn shell() -> Self {
        Self::start(&["sh", "-i"])
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("console")
    }

    fn connect(&self, limit: Duration, most: usize) -> Console {
        Console::connect(&self.socket(), limit, most).unwrap()
    }

    fn run(&self, command: &str) -> Answer {
        self.connect(LIMIT, MOST).run(command).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The shell ends with the one that started it: its terminal hangs up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(listener: UnixListener, mut master: File, noisy: Arc<AtomicBool>) {
    let mut typed = master.try_clone().unwrap();
    let (send, said) = std::sync::mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        let mut chunk = [0; 1024];
        while let Ok(length) = master.read(&mut chunk) {
            let _ = send.send(chunk[..length].to_vec());
        }
    });
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            // Lost, as nobody was there.
            said.try_iter().for_each(drop);
            let mut keys = client.try_clone().unwrap();
            let gone = Arc::new(AtomicBool::new(false));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut chunk = [0; 1024];
                    while let Ok(length @ 1..) = keys.read(&mut chunk) {
                        typed.write_all(&chunk[..length]).unwrap();
                    }
                    gone.store(true, Ordering::SeqCst);
                });
                while !gone.load(Ordering::SeqCst) {
                    let Ok(chunk) = said.recv_timeout(Duration::from_millis(10)) else {
                        continue;
                    };
                    let mut out = chunk.clone();
                    if noisy.load(Ordering::SeqCst) {
                        out = chunk
                            .iter()
                            .flat_map(|byte| [MESSAGE, &[*byte]].concat())
                            .collect();
                    }
                    let _ = client.write_all(&out);
                }
            });
        }
    });
}

fn answer(output: &str, status: u8) -> Answer {
    Answer {
        output: output.to_owned(),
        status,
    }
}

#[test]
fn a_command_s_output_and_status_come_back() {
    let machine = Machine::shell();
    assert_eq!(machine.run("echo one; echo two"), answer("one\ntwo\n", 0));
    assert_eq!(
        machine.run("printf 'no line end'"),
        answer("no line end", 0)
    );
    assert_eq!(machine.run("echo bad >&2; exit 7"), answer("bad\n", 7));
    assert_eq!(machine.run("true"), answer("", 0));
    assert_eq!(machine.run(""), answer("", 0));
}

#[test]
fn every_character_of_a_command_arrives() {
    let machine = Machine::shell();
    let odd = "tab\there 100% \\n 'single' \"double\" `x` !! é ~ * $HOME ^C #";
    let quoted = odd.replace('\'', "'\\''");
    assert_eq!(
        machine.run(&format!("printf '%s\\n' '{quoted}'")),
        answer(&format!("{odd}\n"), 0)
    );
    assert_eq!(machine.run("-n"), machine.run("-n"));
    let long = "x".repeat(3000);
    assert_eq!(
        machine.run(&format!("echo {long}")),
        answer(&format!("{long}\n"), 0)
    );
    let lines = "for i in 1 2 3; do\n\techo $i\ndone\ncat << E\nhere\nE\n";
    assert_eq!(machine.run(lines), answer("1\n2\n3\nhere\n", 0));
}

#[test]
fn a_wrong_command_leaves_the_shell_as_it_was() {
    let machine = Machine::shell();
    for wrong in ["if", "echo 'open", "exit 3", "kill $$", "cat"] {
        let status = machine.run(wrong).status;
        assert_eq!(status != 0, wrong != "cat", "{wrong}: {status}");
        assert_eq!(machine.run("echo fine"), answer("fine\n", 0));
    }
}

#[test]
fn the_kernel_may_speak_at_any_moment() {
    let machine = Machine::shell();
    machine.noisy.store(true, Ordering::SeqCst);
    assert_eq!(
        machine.run("echo '[ ok ] [12.5] done'; exit 4"),
        answer("[ ok ] [12.5] done\n", 4)
    );
}

#[test]
fn what_a_command_prints_of_the_kernel_is_kept() {
    let machine = Machine::shell();
    let line = "[   12.345678] printed by dmesg\n";
    assert_eq!(machine.run(&format!("printf '{line}'")), answer(line, 0));
}

#[test]
fn it_is_bounded_in_time_and_the_command_is_ended() {
    let machine = Machine::shell();
    let start = Instant::now();
    let fault = machine
        .connect(Duration::from_millis(700), MOST)
        .run("echo begun; sleep 60")
        .unwrap_err();
    assert!(
        matches!(&fault, Fault::Late(seen) if seen.contains("begun")),
        "{fault:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(machine.run("echo next"), answer("next\n", 0));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn it_is_bounded_in_size() {
    let machine = Machine::shell();
    let fault = machine
        .connect(LIMIT, 20_000)
        .run("yes | head -n 100000")
        .unwrap_err();
    assert!(matches!(fault, Fault::TooLong(_)), "{fault:?}");
    assert_eq!(machine.run("echo next"), answer("next\n", 0));
}

#[test]
fn nobody_who_answers_is_said() {
    let folder = Folder::new();
    let limit = Duration::from_millis(300);
    let nothing = Console::connect(&folder.path().join("none"), limit, MOST);
    assert!(matches!(nothing.err(), Some(Fault::Closed(_))));
    let machine = Machine::start(&["sleep", "60"]);
    let silent = machine.connect(limit, MOST).wait_for_shell().unwrap_err();
    assert!(matches!(silent, Fault::Late(_)), "{silent:?}");
}

/// As OpenWrt does: it boots with many words, asks for Enter, and a shell comes after that. What is typed before
/// would be a rescue mode's.
#[test]
fn a_shell_that_waits_for_enter_is_activated() {
    let boots = "stty -echo
        for i in 1 2 3; do printf '[    0.%06d] booting\\n' $i; sleep 0.4; done
        echo 'Please press Enter to activate this console.'
        read -r typed
        [ -z \"$typed\" ] || exit
        stty echo
        exec sh -i";
    let machine = Machine::start(&["sh", "-c", boots]);
    machine.connect(LIMIT, MOST).wait_for_shell().unwrap();
    assert_eq!(machine.run("echo here"), answer("here\n", 0));
}

/// The shell of small machines edits lines itself, and takes no more than some hundred bytes.
#[test]
fn a_shell_with_a_line_editor_is_understood() {
    let machine = Machine::start(&["busybox", "ash", "-i"]);
    machine.connect(LIMIT, MOST).wait_for_shell().unwrap();
    let long = format!("printf '%s\\n' 'a\tb' {}", "word ".repeat(300));
    let output = machine.run(&long).output;
    assert_eq!(output.lines().count(), 301);
    assert!(output.starts_with("a\tb\n"));
}
