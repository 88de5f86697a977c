//! The filter, run as the kernel runs it.

use std::collections::BTreeSet;

use nix::libc::{self, c_int, c_long};
use seccompiler::sock_filter;

use super::calls::{ALLOWED, ALLOWED_OLD, CONDITIONAL};
use super::program::{ARCHITECTURE, program};

const PROCESS: i32 = 4711;
const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
/// Above every call of every architecture, without the bit that marks those of x32.
const LAST: c_long = 1023;

/// What the filter answers; `arguments` are the first ones, the others are zero.
fn answer(call: c_long, arguments: &[u64]) -> u32 {
    answer_on(ARCHITECTURE, call, arguments)
}

fn answer_on(architecture: u32, call: c_long, arguments: &[u64]) -> u32 {
    // struct seccomp_data of linux/seccomp.h, for a little-endian machine.
    let mut data = Vec::new();
    data.extend(u32::try_from(call).unwrap().to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    for argument in 0..6 {
        data.extend(arguments.get(argument).copied().unwrap_or(0).to_le_bytes());
    }
    run(&program(PROCESS), &data)
}

/// The kernel's part: of classic BPF (linux/filter.h) the instructions that there are.
fn run(program: &[sock_filter], data: &[u8]) -> u32 {
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
            // BPF_RET | BPF_K
            0x06 => return k,
            // BPF_JMP | BPF_K with BPF_JEQ, BPF_JGE
            0x15 => accumulator == k,
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
            assert_eq!(refused, REFUSED);
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
    // Other call tables of the same machine: those of 32-bit programs, and of x32.
    let i386 = 0x4000_0003;
    assert_eq!(answer_on(i386, libc::SYS_read, &[]), REFUSED);
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
