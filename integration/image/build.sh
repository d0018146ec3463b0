#!/bin/bash
# Makes the test VM's files in the folder $1: vmlinuz, initrd.cpio, root.ext4, and for the guest with an older kernel
# vmlinuz-debian12, initrd-debian12.cpio.
#
# Everything comes from Debian packages of the suites below, fetched the way this machine's apt fetches its own.
# Two to four minutes, 1 GB in the end, three times that meanwhile. Says one line on failure; the rest is in $1/build.log.
set -euo pipefail

suite=trixie
old_suite=bookworm
new_suite=sid
disk_size=3000M
recipe=$(cd "$(dirname "$0")" && pwd)
out=$1
root=$out/root
log=$out/build.log

die() {
    echo "rtc-vm: $* (log: $log)" >&2
    exit 1
}

# Debian's own entries among this machine's apt sources, with the name of suite $1 in place of the machine's.
# Written to two files, for apt's two formats; one of them may stay empty, and one that is empty is removed.
collect_sources() {
    local mine suite=$1
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
            }' "$file" >> "$out/$suite.sources"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$file" ] || continue
        awk -v mine="$mine" -v suite="$suite" '$1 == "deb" && / main( |$)/ && $0 !~ /backports/ {
            if (sub(" " mine " ", " " suite " ") || sub(" " mine "-", " " suite "-")) print
        }' "$file" >> "$out/$suite.list"
    done
    [ "$suite" != "$new_suite" ] || without_siblings
    find "$out" -maxdepth 1 -name "$suite.*" -empty -delete
    [ -f "$out/$suite.sources" ] || [ -f "$out/$suite.list" ] ||
        die "no apt source of Debian $mine with component main was found in /etc/apt, so $suite can't be fetched"
}

# Debian's newest suite has none beside it, for updates or security.
without_siblings() {
    touch "$out/$new_suite.sources" "$out/$new_suite.list"
    sed -i -E "s/ $new_suite-[^ ]+//g" "$out/$new_suite.sources"
    awk 'BEGIN { RS = ""; ORS = "\n\n" } !/(^|\n)Suites:[ \t]*(\n|$)/ && !/security/' "$out/$new_suite.sources" \
        > "$out/$new_suite.sources.left"
    mv "$out/$new_suite.sources.left" "$out/$new_suite.sources"
    sed -i "/ $new_suite-\|security/d" "$out/$new_suite.list"
}

# How this machine's apt fetches (proxies, checks of dates, languages), for the apt that fills the root folder.
collect_apt_settings() {
    apt-config dump | grep '^Acquire::' | grep -v -e '^Acquire::IndexTargets' -e '^Acquire::Changelogs' > "$out/apt.conf"
    echo 'APT::Install-Recommends "false";' >> "$out/apt.conf"
}

make_root() {
    local include
    include=$(entries "$recipe/packages.txt" | paste -sd,)
    mmdebstrap --mode=root --variant=apt --include="$include" --aptopt="$out/apt.conf" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$root" "$out/$suite".* >> "$log" 2>&1 ||
        die "Debian $suite could not be fetched or installed: $(grep -m1 '^E:' "$log" || echo 'mmdebstrap failed')"
}

# The kernel of the suite before, into the same root folder.
add_old_kernel() {
    local old=$out/old version
    mmdebstrap --mode=root --variant=extract --include=linux-image-cloud-amd64 --aptopt="$out/apt.conf" \
        "$old_suite" "$old" "$out/$old_suite".* >> "$log" 2>&1 ||
        die "the kernel of Debian $old_suite could not be fetched: $(grep -m1 '^E:' "$log" || echo 'mmdebstrap failed')"
    version=$(ls "$old/lib/modules")
    mv "$old/lib/modules/$version" "$root/usr/lib/modules/"
    mv "$old/boot/vmlinuz-$version" "$root/boot/"
    chroot "$root" depmod "$version"
    make_boot_files "$version" -debian12
    rm -rf "$old" "$root/boot/vmlinuz-$version"
}

# Debian 13's containerd is 1.7, its runc 1.1 and its crun 1.21. The next ones of Debian's lie beside them, with those
# libraries that Debian 13 lacks.
add_newer_peers() {
    local new=$out/new peers=$root/usr/lib/rtc-peers libraries=usr/lib/x86_64-linux-gnu library
    mmdebstrap --mode=root --variant=extract --include=containerd,crun,runc --aptopt="$out/apt.conf" \
        --aptopt='Acquire::Check-Valid-Until "false"' "$new_suite" "$new" "$out/$new_suite".* >> "$log" 2>&1 ||
        die "containerd of Debian $new_suite could not be fetched: $(grep -m1 '^E:' "$log" || echo 'mmdebstrap failed')"
    install -D -t "$peers/containerd2" "$new"/usr/bin/containerd "$new"/usr/bin/containerd-shim-runc-v2 "$new"/usr/bin/ctr
    install -D -t "$peers/new" "$new/usr/bin/crun" "$new/usr/sbin/runc"
    for library in libblake3.so.0 libjson-c.so.5; do
        [ -e "$root/$libraries/$library" ] || cp -L "$new/$libraries/$library" "$root/$libraries/"
    done
    chroot "$root" ldconfig
    rm -rf "$new"
}

# entries FILE: its lines without comments and empty ones.
entries() {
    grep -v -e '^#' -e '^$' "$1"
}

# What Debian's packages don't say: our inits, an ordinary user, and no other OCI runtime and no CRIU within reach of
# the engines.
overlay() {
    install -m 755 "$recipe/rtc-init" "$root/sbin/rtc-init"
    mkdir -p "$root/rtc" "$root/usr/lib/rtc-peers" "$root/usr/lib/rtc-images"
    install -D -m 755 -t "$root/usr/lib/rtc" "$recipe/rtc-prepare"
    set_up_systemd
    chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash tester
    echo tester:100000:65536 | tee "$root/etc/subuid" > "$root/etc/subgid"
    local peer
    for peer in runc crun; do
        [ ! -e "$root/usr/bin/$peer" ] || mv "$root/usr/bin/$peer" "$root/usr/lib/rtc-peers/"
        [ ! -e "$root/usr/sbin/$peer" ] || mv "$root/usr/sbin/$peer" "$root/usr/lib/rtc-peers/"
    done
    [ -z "$(find "$root/usr" -name criu -type f)" ] || die "a package brought CRIU into the image"
    bash "$recipe/container-image.sh" "$root" "$root/usr/lib/rtc-images" >> "$log" 2>&1 ||
        die "the containers' images could not be made"
}

set_up_systemd() {
    local units=$root/etc/systemd/system unit kind
    install -m 644 -t "$units" "$recipe/rtc-vm.target" "$recipe/rtc-vm-agent.service"
    ln -s rtc-vm.target "$units/default.target"
    mkdir -p "$root/etc/systemd/system-generators" "$root/etc/systemd/journald.conf.d"
    entries "$recipe/masked.txt" | while read -r kind unit; do
        case $kind in
            generator) ln -s /dev/null "$root/etc/systemd/system-generators/$unit" ;;
            *) ln -sf /dev/null "$units/$kind" ;;
        esac
    done
    printf '[Journal]\nStorage=volatile\n' > "$root/etc/systemd/journald.conf.d/volatile.conf"
    # With an empty one the boot counts as the machine's first, which enables every unit there is.
    echo 7274632d766d2d7274632d766d2d7274 > "$root/etc/machine-id"
    : > "$root/etc/fstab"
    echo rtc-vm > "$root/etc/hostname"
}

# make_boot_files VERSION SUFFIX: kernel and initrd, out of the root folder.
make_boot_files() {
    cp "$root/boot/vmlinuz-$1" "$out/vmlinuz$2"
    local initrd=$out/initrd number=10 driver
    rm -rf "$initrd"
    mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/root" "$initrd/drivers"
    cp "$root/usr/bin/busybox" "$initrd/bin/"
    install -m 755 "$recipe/initrd-init" "$initrd/init"
    # Each driver after what it needs, as the numbers in front of the names say; what is built in is not named.
    chroot "$root" modprobe -S "$1" -a --show-depends virtio_pci virtio_blk virtio_console > "$out/drivers"
    while read -r kind driver; do
        [ "$kind" = insmod ] || continue
        number=$((number + 1))
        case $driver in
            *.xz) xz -dc "$root$driver" > "$initrd/drivers/$number" ;;
            *) cp "$root$driver" "$initrd/drivers/$number" ;;
        esac
    done < "$out/drivers"
    (cd "$initrd" && find . | cpio --quiet -o -H newc) > "$out/initrd$2.cpio"
    rm -r "$initrd" "$out/drivers"
}

make_disk() {
    rm -rf "$root"/boot/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log
    local mkfs
    mkfs=$(PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4)
    "$mkfs" -q -F -d "$root" -O ^has_journal,^metadata_csum -E lazy_itable_init=1 -m 0 "$out/root.ext4" "$disk_size" \
        >> "$log" 2>&1 || die "the root disk could not be made"
}

collect_sources "$suite"
collect_sources "$old_suite"
collect_sources "$new_suite"
collect_apt_settings
make_root
overlay
make_boot_files "$(ls "$root/usr/lib/modules")" ""
add_old_kernel
add_newer_peers
make_disk
rm -rf "$root" "$out/apt.conf" "$out"/*.sources "$out"/*.list
