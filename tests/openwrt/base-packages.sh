#!/usr/bin/env bash
# What opkg finds installed on the test machine: `tests/openwrt/base-packages.sh ROOT ARCH`. A kmod is there if its
# modules are below ROOT/lib/modules (or in the kernel), a program if it is in ROOT. ARCH is OpenWrt's name of a
# package architecture, the only one beside `all` that the machine's opkg accepts.
set -euo pipefail
root=$1
arch=$2
version=1

# package : the modules that it brings on OpenWrt, as far as they concern this project
KMODS=(
    'kmod-nft-core: nf_tables nft_ct nft_reject_inet nft_limit nft_log'
    'kmod-nft-netdev: nft_dup_netdev nft_fwd_netdev'
    'kmod-nft-nat: nft_nat nft_masq'
    'kmod-nft-offload: nft_flow_offload nf_flow_table_inet'
    'kmod-sched-core: sch_ingress sch_htb sch_hfsc sch_tbf cls_matchall cls_flow cls_fw cls_u32 act_mirred act_skbedit'
    'kmod-sched-prio: sch_prio'
    'kmod-sched-cake: sch_cake'
    'kmod-sched: sch_sfq sch_fq act_csum act_pedit'
    'kmod-sched-flower: cls_flower'
    'kmod-ifb: ifb'
)
# package : what shows that it is there
PROGRAMS=(
    'libc:' 'base-files:/lib/functions.sh' 'busybox:/bin/busybox' 'uci:/sbin/uci' 'procd:/sbin/procd-subset'
    'rpcd:/etc/init.d/rpcd' 'ubus:/bin/ubus' 'firewall4:/sbin/fw4' 'nftables-json:/usr/sbin/nft' 'ip-full:/usr/sbin/ip'
    'tc-full:/usr/sbin/tc' 'ca-bundle:'
)

has_module() {
    find "$root/lib/modules" -name "$1.ko*" -print -quit | grep -q . \
        || grep -qsx ".*/$1.ko" "$root"/lib/modules/*/modules.builtin
}

stanza() {
    printf 'Package: %s\nVersion: %s\nStatus: install user installed\nArchitecture: %s\nInstalled-Time: 0\n\n' \
        "$1" "$version" "$arch"
}

mkdir -p "$root/usr/lib/opkg/info" "$root/etc/modules.d" "$root/lib/modules" "$root/etc"
{
    for each in "${PROGRAMS[@]}"; do
        # One without a file is there in any case.
        if [ -z "${each#*:}" ] || [ -e "$root${each#*:}" ]; then
            stanza "${each%%:*}"
        fi
    done
    for each in "${KMODS[@]}"; do
        package=${each%%:*}
        there=1
        : > "$root/etc/modules.d/$package"
        for module in ${each#*:}; do
            if has_module "$module"; then
                echo "$module" >> "$root/etc/modules.d/$package"
            else
                there=
            fi
        done
        if [ -n "$there" ]; then
            stanza "$package"
        else
            echo "$package: not all of its modules are on the machine" >&2
            rm "$root/etc/modules.d/$package"
        fi
    done
} > "$root/usr/lib/opkg/status"
cat > "$root/etc/opkg.conf" << END
dest root /
dest ram /tmp
lists_dir ext /var/opkg-lists
option overlay_root /overlay
arch all 1
arch noarch 1
arch $arch 10
END
