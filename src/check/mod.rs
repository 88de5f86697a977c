//! `qod-agent check`, the doctor: line by line what this router can do, what is in the way, and what to
//! do about it. It changes nothing: what must be tried is tried in a network namespace of its own. (The
//! kernel may load modules for it, as it does for `run`.)

mod facts;
mod judge;
mod line;
mod probe;
mod site;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::utsname::uname;

use crate::config::{self, Config};
use crate::nft::{self, Flowtable, MarkBits, Nft};
use crate::{lock, status};
use facts::Facts;
use line::Grade;

/// What the doctor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// For people, one line each: `ok`, `warn` or `FAIL`, what was looked at, how it is.
    pub text: String,
    /// In a word.
    pub verdict: Verdict,
}

/// Whether the agent can do its main job here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Good,
    /// It cannot, or that could not be found out.
    Bad,
    /// The configuration cannot be used.
    BadConfiguration,
}

/// Looks at everything. A configuration that cannot be used is one line among others.
pub fn check(config_file: &Path) -> Diagnosis {
    let config = Config::read(config_file);
    let facts = gather(&config, config_file);
    let lines = judge::lines(&facts);
    let failed = lines.iter().any(|line| line.grade == Grade::Fail);
    Diagnosis {
        text: lines.iter().map(|line| format!("{line}\n")).collect(),
        verdict: match (config, failed) {
            (Err(_), _) => Verdict::BadConfiguration,
            (Ok(_), true) => Verdict::Bad,
            (Ok(_), false) => Verdict::Good,
        },
    }
}

fn gather(config: &Result<Config, config::Error>, config_file: &Path) -> Facts {
    let bits = config
        .as_ref()
        .map_or_else(|_| MarkBits::default(), |config| config.mark_bits);
    let kernel = uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    Facts {
        release: status::release(),
        may_administer: may_administer(),
        abilities: probe::kernel(bits, &kernel),
        kernel,
        site: match config {
            Ok(config) => Ok(site::look(config, config_file)),
            Err(error) => Err(error.to_string()),
        },
        flowtables: flowtables(bits).map_err(|error| error.to_string()),
        time: SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO),
        agent: lock::is_taken().map_err(|error| error.to_string()),
    }
}

fn flowtables(bits: MarkBits) -> Result<Vec<Flowtable>, nft::Error> {
    Nft::new(bits).flowtables()
}

/// Whether this process has `CAP_NET_ADMIN` in effect (`CapEff` of `proc_pid_status(5)`).
fn may_administer() -> bool {
    /// `CAP_NET_ADMIN` of `linux/capability.h`.
    const NET_ADMIN: u64 = 1 << 12;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .is_some_and(|set| set & NET_ADMIN != 0)
}
