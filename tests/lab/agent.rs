//! A running `qod-agent`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use super::folder::Folder;
use super::netns::Netns;
use super::process::Process;

/// The agent's binary: the one that cargo built with the test, or `QOD_AGENT_BIN`.
pub fn binary() -> PathBuf {
    env::var_os("QOD_AGENT_BIN")
        .or_else(|| option_env!("CARGO_BIN_EXE_qod-agent").map(Into::into))
        .expect("QOD_AGENT_BIN is not set")
        .into()
}

/// The configuration of an agent in a [`super::Home`]'s router, as a starting point.
pub fn config(url: &str) -> Value {
    json!({
        "agentId": "home-0001",
        "backend": { "url": url, "token": "agent-token", "allowPlainHttp": url.starts_with("http:") },
        "pollWaitSeconds": 5,
        "reportIntervalSeconds": 1,
        "lan": ["br-lan"],
        "wan": "wan",
        "queues": "auto",
        "status": { "listen": "127.0.0.1:8742" },
    })
}

/// Killed when dropped.
pub struct Agent {
    pub process: Process,
    config: PathBuf,
    // Declared after the process: that ends first.
    folder: Folder,
}

impl Agent {
    /// Starts `qod-agent run` inside a namespace.
    pub fn start(netns: &Netns, config: &Value) -> Self {
        let folder = Folder::new();
        let file = folder.write("config.json", config.to_string());
        let process = run(netns, &folder, &file);
        Self {
            process,
            config: file,
            folder,
        }
    }

    /// Another run with the same configuration, after the first has ended or was killed.
    pub fn restart(&mut self, netns: &Netns) {
        self.process.kill();
        self.process = run(netns, &self.folder, &self.config);
    }

    /// Runs one of the other commands with the same configuration.
    pub fn command(&self, netns: &Netns, arguments: &[&str]) -> Output {
        let mut command = netns.command(binary());
        command.args(arguments).arg("--config").arg(&self.config);
        command.output().unwrap()
    }

    /// What `qod-agent status --json` prints; `None` while it fails.
    pub fn status(&self, netns: &Netns) -> Option<Value> {
        let output = self.command(netns, &["status", "--json"]);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }
}

fn run(netns: &Netns, folder: &Folder, config: &Path) -> Process {
    Process::start(
        netns
            .command(binary())
            .args(["run", "--config"])
            .arg(config)
            .env(
                "RUST_LOG",
                env::var_os("RUST_LOG").unwrap_or("debug".into()),
            ),
        &folder.path().join("agent.log"),
    )
}
