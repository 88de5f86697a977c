//! The system calls that the agent, its libraries and the C library make, glibc's as well as musl's.
//!
//! The lists were drawn from what the tests make under strace(1), and from the sources of both C
//! libraries for what no test reaches: `abort`, name services, a machine without vDSO, calls that are
//! tried first and do without.

use nix::libc::{self, c_int, c_long};

/// Allowed with any arguments.
pub(super) const ALLOWED: &[c_long] = &[
    // Files and other descriptors.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    // The lock is given back at the end.
    libc::SYS_flock,
    libc::SYS_ppoll,
    // Sockets. Nothing listens anew.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads and signals.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    // What this process and this machine are.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
];

/// What younger architectures do not have; where it is, C libraries use it.
#[cfg(target_arch = "x86_64")]
pub(super) const ALLOWED_OLD: &[c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const ALLOWED_OLD: &[c_long] = &[];

/// Each makes `open` more than reading; `O_TMPFILE` contains `O_DIRECTORY`, which does not.
const OPEN_TO_WRITE: c_int =
    libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY;

/// `clone` for a thread of this process …
const THREAD: c_int = libc::CLONE_VM | libc::CLONE_THREAD;
/// … and for namespaces.
const NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// The bits of `socket`'s second argument that are no flags.
const SOCKET_TYPE: c_int = 0xf;

/// Below are the options of an IP socket; from here on those that program iptables and multicast
/// routing (`linux/netfilter_ipv4/ip_tables.h`, `linux/mroute.h`), which `CAP_NET_ADMIN` allows.
const FIRST_TABLE_OPTION: c_int = 64;

/// What one argument, counted from 0, must be.
pub(super) struct Condition(pub(super) u8, pub(super) Test);

pub(super) enum Test {
    /// Of its lower half, the bits of the first have the value of the second.
    Masked(c_int, c_int),
    /// Its lower half is less than that.
    Below(c_int),
    /// It is zero in its whole length.
    Null,
}

/// Rows of conditions; a call is allowed if all of one row hold.
pub(super) type Rows<'a> = &'a [&'a [Condition]];

pub(super) const fn is(argument: u8, value: c_int) -> Condition {
    masked(argument, -1, value)
}

const fn masked(argument: u8, mask: c_int, value: c_int) -> Condition {
    Condition(argument, Test::Masked(mask, value))
}

const fn without(argument: u8, mask: c_int) -> Condition {
    masked(argument, mask, 0)
}

/// Allowed with some arguments.
pub(super) const CONDITIONAL: &[(c_long, Rows<'static>)] = &[
    (libc::SYS_openat, &[&[without(2, OPEN_TO_WRITE)]]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, &[&[without(1, OPEN_TO_WRITE)]]),
    (libc::SYS_socket, SOCKETS),
    (libc::SYS_setsockopt, SOCKET_OPTIONS),
    // Data that opens a connection goes past Landlock on some kernels.
    (libc::SYS_sendto, &[&[without(3, libc::MSG_FASTOPEN)]]),
    (libc::SYS_sendmsg, &[&[without(2, libc::MSG_FASTOPEN)]]),
    (libc::SYS_sendmmsg, &[&[without(3, libc::MSG_FASTOPEN)]]),
    (libc::SYS_mmap, MAPPINGS),
    (libc::SYS_mprotect, &[&[without(2, libc::PROT_EXEC)]]),
    // clone3 has its flags in memory, where a filter cannot look.
    (
        libc::SYS_clone,
        &[&[masked(0, THREAD | NAMESPACES, THREAD)]],
    ),
    (
        libc::SYS_fcntl,
        &[
            &[is(1, libc::F_DUPFD)],
            &[is(1, libc::F_DUPFD_CLOEXEC)],
            &[is(1, libc::F_GETFD)],
            &[is(1, libc::F_SETFD)],
            &[is(1, libc::F_GETFL)],
            &[is(1, libc::F_SETFL)],
        ],
    ),
    (
        libc::SYS_ioctl,
        &[
            // Whether it is a terminal.
            &[is(1, libc::TCGETS as c_int)],
            &[is(1, libc::FIOCLEX as c_int)],
            &[is(1, libc::FIONBIO as c_int)],
            &[is(1, libc::FIONREAD as c_int)],
            // The zone of an IPv6 name server, as in fe80::1%lan.
            &[is(1, libc::SIOCGIFINDEX as c_int)],
        ],
    ),
    (
        libc::SYS_prctl,
        &[&[is(0, libc::PR_SET_NAME)], &[is(0, libc::PR_SET_VMA)]],
    ),
    // Reading limits, this process's own.
    (
        libc::SYS_prlimit64,
        &[&[is(0, 0), Condition(2, Test::Null)]],
    ),
];

const fn stream(family: c_int, protocol: c_int) -> [Condition; 3] {
    let kind = masked(1, SOCKET_TYPE, libc::SOCK_STREAM);
    [is(0, family), kind, is(2, protocol)]
}

const fn datagram(family: c_int, protocol: c_int) -> [Condition; 3] {
    let kind = masked(1, SOCKET_TYPE, libc::SOCK_DGRAM);
    [is(0, family), kind, is(2, protocol)]
}

/// TCP and UDP, by name: Landlock's rules for TCP do not hold for MPTCP. Of netlink what the agent
/// programs. Nothing local: behind such sockets are services that do what root asks of them.
const SOCKETS: Rows<'static> = &[
    &stream(libc::AF_INET, 0),
    &stream(libc::AF_INET, libc::IPPROTO_TCP),
    &stream(libc::AF_INET6, 0),
    &stream(libc::AF_INET6, libc::IPPROTO_TCP),
    &datagram(libc::AF_INET, 0),
    &datagram(libc::AF_INET, libc::IPPROTO_UDP),
    &datagram(libc::AF_INET6, 0),
    &datagram(libc::AF_INET6, libc::IPPROTO_UDP),
    &[is(0, libc::AF_NETLINK), is(2, libc::NETLINK_ROUTE)],
    &[is(0, libc::AF_NETLINK), is(2, libc::NETLINK_NETFILTER)],
];

const SOCKET_OPTIONS: Rows<'static> = &[
    &[is(1, libc::SOL_SOCKET)],
    &[is(1, libc::SOL_NETLINK)],
    &[is(1, libc::IPPROTO_TCP)],
    &[
        is(1, libc::IPPROTO_IP),
        Condition(2, Test::Below(FIRST_TABLE_OPTION)),
    ],
    &[
        is(1, libc::IPPROTO_IPV6),
        Condition(2, Test::Below(FIRST_TABLE_OPTION)),
    ],
];

/// Memory is never code; but glibc maps name services, which are libraries, from their files.
const MAPPINGS: Rows<'static> = &[
    &[without(2, libc::PROT_EXEC)],
    #[cfg(target_env = "gnu")]
    &[
        without(2, libc::PROT_WRITE),
        without(3, libc::MAP_ANONYMOUS),
    ],
];
