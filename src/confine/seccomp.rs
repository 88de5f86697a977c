//! The seccomp filter (seccomp(2)): which system calls there are.
//!
//! A call that is not allowed fails with `ENOSYS`, as on a kernel that does not have it. Nothing is
//! killed for it: an agent that is gone helps no home. And with `ENOSYS` a C library that is newer
//! than the list takes its older way, where `EPERM` makes it give up (`clone3` is the known case).

use super::Error;

/// Installs the filter for the calling thread and those that it starts. `false`: this kernel or this
/// architecture has none.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
pub(super) fn install() -> Result<bool, Error> {
    use std::io;

    use nix::libc;
    use seccompiler::Error::{Prctl, Seccomp};

    // An error of the library's can only come from the lists, which the tests have seen.
    let wrong = || Error::Seccomp(io::ErrorKind::InvalidInput.into());
    let program = super::filter::program(nix::unistd::getpid()).map_err(|_| wrong())?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(true),
        // Built without CONFIG_SECCOMP, or without CONFIG_SECCOMP_FILTER.
        Err(Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
        {
            Ok(false)
        }
        Err(Prctl(error) | Seccomp(error)) => Err(Error::Seccomp(error)),
        Err(_) => Err(wrong()),
    }
}

/// The library does not know this architecture.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
pub(super) fn install() -> Result<bool, Error> {
    Ok(false)
}
