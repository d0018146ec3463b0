#!/bin/bash
# Makes the test VM's files in the folder $1: vmlinuz, initrd.cpio, root.ext4.
#
# Everything comes from Debian packages of the suite below, fetched the way this machine's apt fetches its own.
# Two to four minutes, 600 MB in the end, three times that meanwhile. Says one line on failure; the rest is in $1/build.log.
set -euo pipefail

suite=trixie
disk_size=3000M
recipe=$(cd "$(dirname "$0")" && pwd)
out=$1
root=$out/root
log=$out/build.log

die() {
    echo "rtc-vm: $* (log: $log)" >&2
    exit 1
}

# Debian's own entries among this machine's apt sources, with the suite's name in place of the machine's.
# Written to two files, for apt's two formats; one of them may stay empty.
collect_sources() {
    local mine
    mine=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -n "$mine" ] || die "/etc/os-release names no release: is this Debian 12 or later?"
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] || continue
        awk -v mine="$mine" -v suite="$suite" 'BEGIN { RS = ""; ORS = "\n\n" }
            $0 ~ "(^|\n)Enabled: *no" { next }
            match($0, "(^|\n)Suites:[^\n]*[ \t]" mine "([ \t\n-]|$)") && /(^|\n)Components:[^\n]*[ \t]main([ \t\n]|$)/ {
                gsub("[ \t]" mine "[^ \t\n]*-backports[^ \t\n]*", "")
                count = split($0, lines, "\n")
                for (i = 1; i <= count; i++) {
                    if (lines[i] ~ /^#/) continue
                    if (lines[i] ~ /^Suites:/) gsub("[ \t]" mine, " " suite, lines[i])
                    printf "%s\n", lines[i]
                }
                print ""
            }' "$file" >> "$out/debian.sources"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$file" ] || continue
        awk -v mine="$mine" -v suite="$suite" '$1 == "deb" && / main( |$)/ && $0 !~ /backports/ {
            if (sub(" " mine " ", " " suite " ") || sub(" " mine "-", " " suite "-")) print
        }' "$file" >> "$out/debian.list"
    done
    [ -s "$out/debian.sources" ] || [ -s "$out/debian.list" ] ||
        die "no apt source of Debian $mine with component main was found in /etc/apt, so $suite can't be fetched"
}

# How this machine's apt fetches (proxies, checks of dates, languages), for the apt that fills the root folder.
collect_apt_settings() {
    apt-config dump | grep '^Acquire::' | grep -v -e '^Acquire::IndexTargets' -e '^Acquire::Changelogs' > "$out/apt.conf"
    echo 'APT::Install-Recommends "false";' >> "$out/apt.conf"
}

make_root() {
    local include sources=() file
    include=$(grep -v -e '^#' -e '^$' "$recipe/packages.txt" | paste -sd,)
    for file in "$out/debian.sources" "$out/debian.list"; do
        [ ! -s "$file" ] || sources+=("$file")
    done
    mmdebstrap --mode=root --variant=apt --include="$include" --aptopt="$out/apt.conf" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$root" "${sources[@]}" >> "$log" 2>&1 ||
        die "Debian $suite could not be fetched or installed: $(grep -m1 '^E:' "$log" || echo 'mmdebstrap failed')"
}

# What Debian's packages don't say: our init, and no other OCI runtime and no CRIU within reach of the engines.
overlay() {
    install -m 755 "$recipe/rtc-init" "$root/sbin/rtc-init"
    mkdir -p "$root/rtc" "$root/usr/lib/rtc-peers"
    local peer
    for peer in runc crun; do
        [ ! -e "$root/usr/bin/$peer" ] || mv "$root/usr/bin/$peer" "$root/usr/lib/rtc-peers/"
        [ ! -e "$root/usr/sbin/$peer" ] || mv "$root/usr/sbin/$peer" "$root/usr/lib/rtc-peers/"
    done
    [ -z "$(find "$root/usr" -name criu -type f)" ] || die "a package brought CRIU into the image"
    mkdir -p "$root/usr/lib/rtc-images"
    bash "$recipe/container-image.sh" "$root" "$root/usr/lib/rtc-images/test.tar" >> "$log" 2>&1 ||
        die "the containers' image could not be made"
}

make_boot_files() {
    cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
    local initrd=$out/initrd driver
    mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/root"
    cp "$root/usr/bin/busybox" "$initrd/bin/"
    install -m 755 "$recipe/initrd-init" "$initrd/init"
    driver=$(find "$root/usr/lib/modules" -name 'virtio_blk.ko.xz')
    xz -dc "$driver" > "$initrd/virtio_blk.ko"
    (cd "$initrd" && find . | cpio --quiet -o -H newc) > "$out/initrd.cpio"
}

make_disk() {
    rm -rf "$root"/boot/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log
    local mkfs
    mkfs=$(PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4)
    "$mkfs" -q -F -d "$root" -O ^has_journal,^metadata_csum -E lazy_itable_init=1 -m 0 "$out/root.ext4" "$disk_size" \
        >> "$log" 2>&1 || die "the root disk could not be made"
}

collect_sources
collect_apt_settings
make_root
overlay
make_boot_files
make_disk
rm -rf "$root" "$out/initrd" "$out/debian.sources" "$out/debian.list" "$out/apt.conf"
