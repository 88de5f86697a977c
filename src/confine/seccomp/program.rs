//! The filter as a program of classic BPF (`linux/filter.h`, `linux/seccomp.h`).
//!
//! The library's compiler would do the same in eight times the flash.

use nix::libc::{
    self, BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    c_int, c_long, pid_t,
};
use seccompiler::sock_filter;

use super::calls::{ALLOWED, ALLOWED_OLD, CONDITIONAL, Condition, Rows, Test, is};

/// `AUDIT_ARCH_…` of `linux/audit.h`: the call table that numbers are of.
pub(super) const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else {
    // riscv64
    0xc000_00f3
};

/// Offsets in `struct seccomp_data`, on a little-endian machine.
const NUMBER: u32 = 0;
const TABLE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// Of an argument, and of its lower half.
const LENGTH: u32 = 8;
const HALF: u32 = 4;

/// The filter for threads of this process.
pub(super) fn program(process: pid_t) -> Vec<sock_filter> {
    let mut program = vec![
        load(TABLE),
        jump(BPF_JEQ, ARCHITECTURE, 1, 0),
        refuse(),
        load(NUMBER),
    ];
    for call in ALLOWED.iter().chain(ALLOWED_OLD) {
        program.extend([jump(BPF_JEQ, number(*call), 0, 1), allow()]);
    }
    for (call, rows) in CONDITIONAL {
        append(&mut program, *call, rows);
    }
    // abort(). musl's has tkill, which could reach any process; refused, it ends by a fault instead.
    append(&mut program, libc::SYS_tgkill, &[&[is(0, process)]]);
    program.push(refuse());
    program
}

fn append(program: &mut Vec<sock_filter>, call: c_long, rows: Rows<'_>) {
    let mut block = Vec::new();
    for row in rows {
        // From its end: each condition that does not hold goes to the next row.
        let mut reversed = vec![allow()];
        for condition in row.iter().rev() {
            check(&mut reversed, condition);
        }
        block.extend(reversed.into_iter().rev());
    }
    block.push(refuse());
    program.push(jump(BPF_JEQ, number(call), 0, length(&block)));
    program.append(&mut block);
}

/// Puts the condition before what is in the row already.
fn check(reversed: &mut Vec<sock_filter>, Condition(argument, test): &Condition) {
    let lower = ARGUMENTS + u32::from(*argument) * LENGTH;
    let past = length(reversed);
    match *test {
        Test::Masked(mask, value) => {
            reversed.push(jump(BPF_JEQ, bits(value), 0, past));
            if mask != -1 {
                reversed.push(statement(BPF_ALU | BPF_AND | BPF_K, bits(mask)));
            }
        }
        Test::Below(limit) => reversed.push(jump(BPF_JGE, bits(limit), past, 0)),
        Test::Null => reversed.extend([
            jump(BPF_JEQ, 0, 0, past),
            load(lower + HALF),
            jump(BPF_JEQ, 0, 0, past.saturating_add(2)),
        ]),
    }
    reversed.push(load(lower));
}

fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn allow() -> sock_filter {
    statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW)
}

fn refuse() -> sock_filter {
    let errno = libc::SECCOMP_RET_ERRNO | bits(libc::ENOSYS);
    statement(BPF_RET | BPF_K, errno)
}

fn statement(code: u32, k: u32) -> sock_filter {
    instruction(code, k, 0, 0)
}

/// Skips as many instructions as the first says if the comparison holds, or else the second.
fn jump(comparison: u32, k: u32, holds: u8, fails: u8) -> sock_filter {
    instruction(BPF_JMP | comparison | BPF_K, k, holds, fails)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Every code fits: they are bits of the lowest byte.
    let code = u16::try_from(code).unwrap_or_default();
    sock_filter { code, jt, jf, k }
}

/// How far it is past them. The tests see that no block is longer than a jump.
fn length(instructions: &[sock_filter]) -> u8 {
    u8::try_from(instructions.len()).unwrap_or(u8::MAX)
}

/// Every number fits: the largest is below 600.
fn number(call: c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn bits(value: c_int) -> u32 {
    value.cast_unsigned()
}
