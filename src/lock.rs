//! One agent per router: a lock on the network namespace, which is what an agent programs.
//!
//! flock(2) on the namespace's own file needs no file of the agent's, holds for every process that
//! programs the same namespace, wherever it was started, and ends with the process that has it, however
//! that ends.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The network namespace of the calling thread: what its netlink sockets will speak to.
const NAMESPACE: &str = "/proc/thread-self/ns/net";
/// Where a kernel has no network namespaces (`CONFIG_NET_NS`), the same for everybody.
const WITHOUT_NAMESPACES: &str = "/sys/class/net";
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Held as long as it lives, and no longer than the process.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Why the lock is not held.
#[derive(Debug)]
pub enum Error {
    /// Another process has it.
    Taken,
    /// There is nothing to lock.
    System(PathBuf, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => write!(f, "another qod-agent runs in this network namespace"),
            Self::System(file, error) => write!(f, "locking {}: {error}", file.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Takes the lock, and waits so long for another process to give it back: whoever starts an agent again
/// may do so before the old one is gone.
///
/// # Errors
/// See [`Error`].
pub fn take(patience: Duration) -> Result<Lock, Error> {
    let end = Instant::now() + patience;
    loop {
        match try_take() {
            Err(Error::Taken) if Instant::now() < end => sleep(PAUSE),
            result => return result,
        }
    }
}

/// Whether another process has the lock.
///
/// # Errors
/// There is nothing to lock.
pub fn is_taken() -> Result<bool, Error> {
    match try_take() {
        Ok(_) => Ok(false),
        Err(Error::Taken) => Ok(true),
        Err(error) => Err(error),
    }
}

fn try_take() -> Result<Lock, Error> {
    match lock(NAMESPACE) {
        Err(Error::System(_, error)) if error.kind() == ErrorKind::NotFound => {
            lock(WITHOUT_NAMESPACES)
        }
        result => result,
    }
}

fn lock(path: &str) -> Result<Lock, Error> {
    let path = Path::new(path);
    let failed = |error| Error::System(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(Lock { _file: file }),
        Err((_, Errno::EWOULDBLOCK)) => Err(Error::Taken),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_excludes_as_a_namespace_does() {
        let folder = std::env::temp_dir().join(format!("qod-lock-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.to_str().unwrap();
        let held = lock(path).unwrap();
        assert!(matches!(lock(path), Err(Error::Taken)));
        drop(held);
        assert!(lock(path).is_ok());
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_locked_is_named() {
        let error = lock("/nonexistent").unwrap_err().to_string();
        assert!(error.starts_with("locking /nonexistent: "), "{error}");
    }
}
