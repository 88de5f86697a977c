//! A PostgreSQL to test against.

#![allow(dead_code, reason = "each test uses a part of this")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A PostgreSQL of its own in a directory of its own, which is stopped in the end.
pub(crate) struct Cluster {
    binaries: PathBuf,
    directory: PathBuf,
}

impl Cluster {
    fn start(binaries: &Path, directory: &Path) -> Self {
        let cluster = Self {
            binaries: binaries.to_owned(),
            directory: directory.join("data"),
        };
        // PostgreSQL refuses to run as root.
        if cluster.is_root() {
            assert!(
                Command::new("chown")
                    .args(["-R", "postgres"])
                    .arg(directory)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        cluster.command(
            "initdb",
            &["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"],
        );
        cluster.start_again();
        cluster
    }

    /// Stops the server; its clients are cut off.
    pub(crate) fn stop(&self) {
        self.command("pg_ctl", &["-w", "-m", "fast", "stop"]);
    }

    /// Starts it over the same data.
    pub(crate) fn start_again(&self) {
        let socket = format!(
            "-c listen_addresses= -c fsync=off -k {}",
            self.directory.parent().unwrap().display()
        );
        self.command("pg_ctl", &["-w", "-o", &socket, "-l", "/dev/null", "start"]);
    }

    fn is_root(&self) -> bool {
        let id = Command::new("id").arg("-u").output().unwrap();
        id.stdout.trim_ascii() == b"0"
    }

    fn command(&self, program: &str, arguments: &[&str]) {
        let program = self.binaries.join(program);
        let mut command = if self.is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        let status = command
            .arg("-D")
            .arg(&self.directory)
            .args(arguments)
            .stdout(Stdio::null())
            .current_dir("/")
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.command("pg_ctl", &["-m", "immediate", "stop"]);
    }
}

/// A PostgreSQL to test against and its URL.
pub(crate) fn postgresql(directory: &Path) -> (Cluster, String) {
    let binaries = std::env::var("QOD_POSTGRES_BIN")
        .unwrap_or_else(|_| "/usr/lib/postgresql/15/bin".to_owned());
    let cluster = Cluster::start(Path::new(&binaries), directory);
    let url = format!(
        "postgres://postgres@localhost/postgres?host={}",
        directory.display()
    );
    (cluster, url)
}

pub(crate) fn postgresql_directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("qod-pg-")
        .tempdir_in("/tmp")
        .unwrap()
}
