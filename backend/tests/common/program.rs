//! The program itself in a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::Client;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_qod-backend");

/// A running program, which is killed in the end.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) client: Client,
}

impl Program {
    /// Starts it and reads its address from its log.
    pub(crate) fn start(directory: &Path, config: &serde_json::Value) -> Self {
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--config", "config.json"])
            .current_dir(directory)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
            if let Some((_, rest)) = line.split_once("listening address=") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        // Somebody must read on, or the program would wait for its log.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self {
            child,
            client: Client::new(format!("http://{address}")),
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let killed = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
