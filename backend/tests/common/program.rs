//! The program itself, in a directory of its own, with its log.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses a part of this, and may panic"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Client;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_qod-backend");
/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running program, which is killed in the end.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) client: Client,
    log: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts it and reads its address from its log.
    pub(crate) fn start(directory: &Path, config: &serde_json::Value) -> Self {
        let mut command = Command::new(PROGRAM);
        command.env("RUST_LOG", "info");
        Self::start_as(command, directory, config)
    }

    /// The same, with everything that it can log.
    pub(crate) fn start_talkative(directory: &Path, config: &serde_json::Value) -> Self {
        let mut command = Command::new(PROGRAM);
        command.env("RUST_LOG", "trace");
        Self::start_as(command, directory, config)
    }

    /// The same, with an environment or below another program.
    pub(crate) fn start_as(
        mut command: Command,
        directory: &Path,
        config: &serde_json::Value,
    ) -> Self {
        std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
        let mut child = command
            .args(["serve", "--config", "config.json"])
            .current_dir(directory)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let written = log.clone();
        // Somebody must read on, or the program would wait for its log.
        let reading = std::thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                written.lock().unwrap().push(line);
            }
        });
        let mut program = Self {
            child,
            client: Client::new(String::new()),
            log,
            reading: Some(reading),
        };
        let line =
            program.await_line(|line| line.contains("listening") && line.contains("address"));
        let (_, rest) = line.split_once("address").unwrap();
        let address: String = rest
            .trim_start_matches(['"', ':', '='])
            .chars()
            .take_while(|c| c.is_ascii_hexdigit() || ".:[]".contains(*c))
            .collect();
        program.client.url = format!("http://{address}");
        program
    }

    pub(crate) fn signal(&self, signal: &str) {
        let killed = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
    }

    /// The first line of the log that is as asked, once it is there.
    pub(crate) fn await_line(&self, is_it: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            if let Some(line) = self.lines().into_iter().find(|line| is_it(line)) {
                return line;
            }
            assert!(began.elapsed() < PATIENCE, "{:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Everything that it logged, once it has ended.
    pub(crate) fn whole_log(&mut self) -> String {
        self.child.wait().unwrap();
        if let Some(reading) = self.reading.take() {
            reading.join().unwrap();
        }
        self.lines().join("\n")
    }

    /// Waits for its end.
    pub(crate) fn await_end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
