//! The seccomp filter as a program: the system calls that the agent, its libraries and the C library
//! make, glibc's as well as musl's.
//!
//! The lists were drawn from what the tests make under strace(1), and from the sources of both C
//! libraries for what no test reaches: `abort`, name services, a machine without vDSO, calls that are
//! tried first and do without.

use std::collections::BTreeMap;

use nix::libc::{self, c_int, c_long};
use nix::unistd::Pid;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, Lt, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: TargetArch = TargetArch::riscv64;

/// Allowed with any arguments.
const ALLOWED: &[c_long] = &[
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
const ALLOWED_OLD: &[c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[c_long] = &[];

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
#[derive(Clone, Copy)]
struct Condition(u8, Test);

#[derive(Clone, Copy)]
enum Test {
    Is(c_int),
    /// Of its bits, those of the first have the value of the second.
    Masked(c_int, c_int),
    Below(c_int),
    Null,
}

/// Rows of conditions; a call is allowed if all of one row hold.
type Rows = &'static [&'static [Condition]];

const fn is(argument: u8, value: c_int) -> Condition {
    Condition(argument, Test::Is(value))
}

const fn masked(argument: u8, mask: c_int, value: c_int) -> Condition {
    Condition(argument, Test::Masked(mask, value))
}

const fn without(argument: u8, mask: c_int) -> Condition {
    masked(argument, mask, 0)
}

/// Allowed with some arguments.
const CONDITIONAL: &[(c_long, Rows)] = &[
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
const SOCKETS: Rows = &[
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

const SOCKET_OPTIONS: Rows = &[
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
const MAPPINGS: Rows = &[
    &[without(2, libc::PROT_EXEC)],
    #[cfg(target_env = "gnu")]
    &[
        without(2, libc::PROT_WRITE),
        without(3, libc::MAP_ANONYMOUS),
    ],
];

/// The filter for threads of this process.
pub(super) fn program(process: Pid) -> Result<BpfProgram, BackendError> {
    // abort(). musl's has tkill, which could reach any process; refused, it ends by a fault instead.
    let own: &[&[_]] = &[&[is(0, process.as_raw())]];
    let mut rules = BTreeMap::new();
    let always = ALLOWED
        .iter()
        .chain(ALLOWED_OLD)
        .map(|call| (*call, &[][..]));
    let sometimes = CONDITIONAL.iter().copied();
    for (call, rows) in always.chain(sometimes).chain([(libc::SYS_tgkill, own)]) {
        let rows = rows.iter().map(|row| {
            let row: Result<_, _> = row.iter().map(condition).collect();
            SeccompRule::new(row?)
        });
        rules.insert(call, rows.collect::<Result<_, _>>()?);
    }
    let refused = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCHITECTURE)?.try_into()
}

fn condition(Condition(argument, test): &Condition) -> Result<SeccompCondition, BackendError> {
    let bits = |value: c_int| u64::from(value.cast_unsigned());
    let (length, operator, value) = match *test {
        Test::Is(value) => (Dword, Eq, bits(value)),
        Test::Masked(mask, value) => (Dword, MaskedEq(bits(mask)), bits(value)),
        Test::Below(value) => (Dword, Lt, bits(value)),
        Test::Null => (Qword, Eq, 0),
    };
    SeccompCondition::new(*argument, length, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PROCESS: i32 = 4711;
    /// Above every call of every architecture, without the bit that marks those of x32.
    const LAST: c_long = 1023;

    /// What the filter answers; `arguments` are the first ones, the others are zero.
    fn answer(call: c_long, arguments: &[u64]) -> u32 {
        let architecture = match ARCHITECTURE {
            TargetArch::x86_64 => 0xc000_003e_u32,
            TargetArch::aarch64 => 0xc000_00b7,
            TargetArch::riscv64 => 0xc000_00f3,
        };
        // struct seccomp_data of linux/seccomp.h, for a little-endian machine.
        let mut data = Vec::new();
        data.extend(u32::try_from(call).unwrap().to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        for argument in 0..6 {
            data.extend(arguments.get(argument).copied().unwrap_or(0).to_le_bytes());
        }
        run(&program(Pid::from_raw(PROCESS)).unwrap(), &data)
    }

    /// The kernel's part: of classic BPF (linux/filter.h) the instructions that the compiler uses.
    fn run(program: &[seccompiler::sock_filter], data: &[u8]) -> u32 {
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let k = step.k;
            let holds = match step.code {
                // BPF_LD | BPF_W | BPF_ABS
                0x20 => {
                    let word = data[k as usize..][..4].try_into().unwrap();
                    accumulator = u32::from_le_bytes(word);
                    continue;
                }
                // BPF_ALU | BPF_AND | BPF_K
                0x54 => {
                    accumulator &= k;
                    continue;
                }
                // BPF_JMP | BPF_JA
                0x05 => {
                    at += k as usize;
                    continue;
                }
                // BPF_RET | BPF_K
                0x06 => return k,
                // BPF_JMP | BPF_K with BPF_JEQ, BPF_JGT, BPF_JGE
                0x15 => accumulator == k,
                0x25 => accumulator > k,
                0x35 => accumulator >= k,
                code => panic!("instruction {code:#x}"),
            };
            at += usize::from(if holds { step.jt } else { step.jf });
        }
    }

    fn allowed(call: c_long, arguments: &[c_int]) -> bool {
        let arguments: Vec<u64> = arguments.iter().map(|a| a.cast_unsigned().into()).collect();
        match answer(call, &arguments) {
            libc::SECCOMP_RET_ALLOW => true,
            refused => {
                let errno = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
                assert_eq!(refused, errno);
                false
            }
        }
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        let listed: BTreeSet<_> = ALLOWED
            .iter()
            .chain(ALLOWED_OLD)
            .copied()
            .chain(CONDITIONAL.iter().map(|(call, _)| *call))
            .chain([libc::SYS_tgkill])
            .collect();
        let count = ALLOWED.len() + ALLOWED_OLD.len() + CONDITIONAL.len() + 1;
        assert_eq!(listed.len(), count, "a call stands twice");
        for call in (0..=LAST).filter(|call| !listed.contains(call)) {
            assert!(!allowed(call, &[]), "{call}");
        }
        for call in ALLOWED.iter().chain(ALLOWED_OLD) {
            assert!(allowed(*call, &[-1, -1, -1, -1, -1, -1]), "{call}");
        }
    }

    #[test]
    fn the_ways_out_are_not_listed() {
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_pidfd_send_signal,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_open_by_handle_at,
            libc::SYS_openat2,
            libc::SYS_memfd_create,
            libc::SYS_socketpair,
            libc::SYS_listen,
            libc::SYS_unlinkat,
            libc::SYS_renameat2,
            libc::SYS_linkat,
            libc::SYS_fchmodat,
            libc::SYS_fchownat,
            libc::SYS_truncate,
            libc::SYS_ftruncate,
            libc::SYS_mkdirat,
            libc::SYS_mknodat,
            libc::SYS_setuid,
            libc::SYS_capset,
            libc::SYS_seccomp,
            libc::SYS_personality,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_sethostname,
            libc::SYS_syslog,
        ] {
            assert!(!allowed(call, &[]), "{call}");
        }
        // Another call table of the same machine.
        #[cfg(target_arch = "x86_64")]
        assert!(!allowed(libc::SYS_read | 0x4000_0000, &[]));
    }

    #[test]
    fn files_are_opened_to_be_read() {
        let open = |flags| allowed(libc::SYS_openat, &[libc::AT_FDCWD, 0, flags]);
        assert!(open(libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW));
        assert!(open(libc::O_DIRECTORY | libc::O_NONBLOCK));
        for flags in [
            libc::O_WRONLY,
            libc::O_RDWR,
            libc::O_CREAT,
            libc::O_TRUNC,
            libc::O_TMPFILE,
            libc::O_RDWR | libc::O_TMPFILE,
        ] {
            assert!(!open(flags), "{flags:#o}");
        }
        #[cfg(target_arch = "x86_64")]
        assert!(!allowed(libc::SYS_open, &[0, libc::O_WRONLY]));
    }

    #[test]
    fn sockets_are_those_of_the_agents_work() {
        let socket = |family, kind, protocol| allowed(libc::SYS_socket, &[family, kind, protocol]);
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let netlink = |protocol| socket(libc::AF_NETLINK, libc::SOCK_RAW | flags, protocol);
        for family in [libc::AF_INET, libc::AF_INET6] {
            assert!(socket(family, libc::SOCK_STREAM | flags, 0));
            assert!(socket(family, libc::SOCK_STREAM, libc::IPPROTO_TCP));
            assert!(socket(family, libc::SOCK_DGRAM | flags, libc::IPPROTO_UDP));
            assert!(!socket(family, libc::SOCK_STREAM, libc::IPPROTO_MPTCP));
            assert!(!socket(family, libc::SOCK_DGRAM, libc::IPPROTO_ICMP));
            assert!(!socket(family, libc::SOCK_RAW, libc::IPPROTO_UDP));
        }
        assert!(netlink(libc::NETLINK_ROUTE) && netlink(libc::NETLINK_NETFILTER));
        assert!(!netlink(libc::NETLINK_AUDIT) && !netlink(libc::NETLINK_GENERIC));
        for family in [libc::AF_UNIX, libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG] {
            assert!(!socket(family, libc::SOCK_STREAM, 0), "{family}");
            assert!(!socket(family, libc::SOCK_DGRAM, 0), "{family}");
        }
    }

    #[test]
    fn options_of_sockets_are_not_those_of_tables() {
        let option = |level, name| allowed(libc::SYS_setsockopt, &[3, level, name]);
        assert!(option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE));
        assert!(option(libc::IPPROTO_IP, libc::IP_RECVERR));
        assert!(option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY));
        // IPT_SO_SET_REPLACE, MRT_INIT
        assert!(!option(libc::IPPROTO_IP, 64) && !option(libc::IPPROTO_IP, 200));
        assert!(!option(libc::IPPROTO_IPV6, 64));
        assert!(!option(libc::SOL_PACKET, 1));
    }

    #[test]
    fn connections_are_opened_by_connect_alone() {
        for (call, at) in [
            (libc::SYS_sendto, 3),
            (libc::SYS_sendmsg, 2),
            (libc::SYS_sendmmsg, 3),
        ] {
            let mut arguments = [3; 4];
            arguments[at] = libc::MSG_NOSIGNAL;
            assert!(allowed(call, &arguments));
            arguments[at] |= libc::MSG_FASTOPEN;
            assert!(!allowed(call, &arguments));
        }
    }

    #[test]
    fn clone_makes_threads_alone() {
        // As both C libraries make them.
        let thread = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        assert!(allowed(libc::SYS_clone, &[thread]));
        assert!(!allowed(libc::SYS_clone, &[libc::SIGCHLD]));
        assert!(!allowed(
            libc::SYS_clone,
            &[libc::CLONE_VM | libc::CLONE_VFORK]
        ));
        assert!(!allowed(libc::SYS_clone, &[thread | libc::CLONE_NEWNET]));
    }

    #[test]
    fn memory_is_never_code() {
        let (r, w, x) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        let map = |how, flags| allowed(libc::SYS_mmap, &[0, 4096, how, flags]);
        assert!(map(r | w, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS));
        assert!(!map(r | w | x, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS));
        assert!(!map(r | x, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS));
        assert!(!map(r | w | x, libc::MAP_PRIVATE));
        assert_eq!(map(r | x, libc::MAP_PRIVATE), cfg!(target_env = "gnu"));
        assert!(allowed(libc::SYS_mprotect, &[0, 4096, r | w]));
        assert!(!allowed(libc::SYS_mprotect, &[0, 4096, r | x]));
    }

    #[test]
    fn other_processes_are_out_of_reach() {
        assert!(allowed(libc::SYS_tgkill, &[PROCESS, 1, libc::SIGABRT]));
        assert!(!allowed(libc::SYS_tgkill, &[1, 1, libc::SIGABRT]));
        assert!(allowed(
            libc::SYS_prlimit64,
            &[0, libc::RLIMIT_STACK as c_int, 0, 1]
        ));
        assert!(!allowed(libc::SYS_prlimit64, &[1, 0, 0, 1]));
        // A pointer is looked at in its whole length.
        let new_limit = [0, 0, 1 << 32, 0];
        assert_ne!(
            answer(libc::SYS_prlimit64, &new_limit),
            libc::SECCOMP_RET_ALLOW
        );
    }

    #[test]
    fn devices_and_descriptors_are_asked_little() {
        assert!(allowed(libc::SYS_ioctl, &[0, libc::TCGETS as c_int]));
        assert!(!allowed(libc::SYS_ioctl, &[0, libc::TIOCSTI as c_int]));
        assert!(allowed(libc::SYS_fcntl, &[3, libc::F_SETFL]));
        assert!(!allowed(libc::SYS_fcntl, &[3, libc::F_SETOWN]));
        assert!(allowed(libc::SYS_prctl, &[libc::PR_SET_NAME]));
        assert!(!allowed(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE]));
    }
}
