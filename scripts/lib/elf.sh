# shellcheck shell=bash
# Which program fits which of OpenWrt's package architectures. Sourced, after packages.sh.

# elf_of_arch ARCH: class, byte order and processor, in readelf's words, of OpenWrt's ARCH.
elf_of_arch() {
    case $1 in
        x86_64) echo 'ELF64 little X86-64' ;;
        i386_*) echo 'ELF32 little 80386' ;;
        aarch64_be_*) echo 'ELF64 big AArch64' ;;
        aarch64_*) echo 'ELF64 little AArch64' ;;
        armeb_*) echo 'ELF32 big ARM' ;;
        arm_*) echo 'ELF32 little ARM' ;;
        mips64el_*) echo 'ELF64 little MIPS' ;;
        mips64_*) echo 'ELF64 big MIPS' ;;
        mipsel_*) echo 'ELF32 little MIPS' ;;
        mips_*) echo 'ELF32 big MIPS' ;;
        powerpc64_*) echo 'ELF64 big PowerPC64' ;;
        powerpc_*) echo 'ELF32 big PowerPC' ;;
        riscv64_*) echo 'ELF64 little RISC-V' ;;
        loongarch64_*) echo 'ELF64 little LoongArch' ;;
        *) return 1 ;;
    esac
}

# static_name ARCH: the word for scripts/build-static.sh that makes the agent for OpenWrt's ARCH from Debian's
# packages. Debian's armhf needs an ARMv7 with a floating-point unit.
static_name() {
    case $1 in
        x86_64) echo x86_64 ;;
        aarch64_be_*) return 1 ;;
        aarch64_*) echo aarch64 ;;
        arm_cortex-a*_*vfp* | arm_cortex-a*_neon*) echo armv7 ;;
        *) return 1 ;;
    esac
}

# rust_triple ARCH: what rustc calls it, to say to scripts/build-static.sh --target.
rust_triple() {
    case $1 in
        i386_pentium4) echo i686-unknown-linux-musl ;;
        i386_*) echo i586-unknown-linux-musl ;;
        aarch64_be_*) echo aarch64_be-unknown-linux-musl ;;
        arm_cortex-a*) echo armv7-unknown-linux-musleabi ;;
        arm_*_vfp*) echo arm-unknown-linux-musleabihf ;;
        arm_arm1176*) echo arm-unknown-linux-musleabi ;;
        arm_*) echo armv5te-unknown-linux-musleabi ;;
        mips64el_*) echo mips64el-unknown-linux-muslabi64 ;;
        mips64_*) echo mips64-unknown-linux-muslabi64 ;;
        powerpc64_*) echo powerpc64-unknown-linux-musl ;;
        riscv64_*) echo riscv64gc-unknown-linux-musl ;;
        *) echo "${1%%_*}-unknown-linux-musl" ;;
    esac
}

# check_static ARCH BINARY: ends the script unless BINARY is a program that runs on ARCH with nothing beside it.
check_static() {
    local arch=$1 binary=$2 expected found header interpreter libraries
    expected=$(elf_of_arch "$arch") || die "$arch is none of OpenWrt's package architectures with a processor"
    [ -f "$binary" ] || die "there is no $binary"
    header=$(LC_ALL=C readelf -hW "$binary" 2> /dev/null || true)
    [ -n "$header" ] || die "$binary is no program (ELF)"
    found=$(awk '$1 == "Class:" { class = $2 }
        $1 == "Data:" { order = / big endian/ ? "big" : "little" }
        $1 == "Machine:" { processor = $NF; if (/MIPS/) processor = "MIPS" }
        END { print class, order, processor }' <<< "$header")
    [ "$found" = "$expected" ] || die "$binary is for another processor: it is $found, and $arch is $expected"
    interpreter=$(LC_ALL=C readelf -lW "$binary" 2> /dev/null \
        | sed -n 's/.*Requesting program interpreter: \(.*\)]$/\1/p')
    libraries=$(LC_ALL=C readelf -dW "$binary" 2> /dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)]$/\1/p' | paste -sd ' ')
    [ -z "$interpreter$libraries" ] \
        || die "$binary is not static: it needs ${interpreter:-no interpreter}, ${libraries:-no library}"
    case $header in
        *'Type:'*'EXEC ('*) ;;
        # A static program that may be loaded anywhere says so; a library looks the same but for that.
        *'Type:'*'DYN ('*) LC_ALL=C readelf -dW "$binary" 2> /dev/null | grep -q '(FLAGS_1).* PIE' \
            || die "$binary is a library, not a program" ;;
        *) die "$binary is no program that can be started" ;;
    esac
}
