//! The seccomp filter (seccomp(2)): which system calls there are.
//!
//! A call that is not allowed fails with `ENOSYS`, as on a kernel that does not have it. Nothing is
//! killed for it: an agent that is gone helps no home. And with `ENOSYS` a C library that is newer
//! than the list takes its older way, where `EPERM` makes it give up (`clone3` is the known case).

mod calls;
mod program;
#[cfg(test)]
mod tests;

use std::io;

use nix::libc;
use seccompiler::Error::{Prctl, Seccomp};

use super::Error;

/// Installs the filter for the calling thread and those that it starts. `false`: this kernel has none.
pub(super) fn install() -> Result<bool, Error> {
    let program = program::program(std::process::id().cast_signed());
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(true),
        // Built without CONFIG_SECCOMP, or without CONFIG_SECCOMP_FILTER.
        Err(Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
        {
            Ok(false)
        }
        Err(Prctl(error) | Seccomp(error)) => Err(Error::Seccomp(error)),
        // Of an empty program, or of all threads at once.
        Err(_) => Err(Error::Seccomp(io::ErrorKind::InvalidInput.into())),
    }
}
