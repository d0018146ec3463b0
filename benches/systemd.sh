#!/bin/bash
# systemd.sh ROUNDS RTC...: create and delete with --systemd-cgroup, by these executables of rtc and by crun, in turns,
# below a systemd that is the first process of a container on this machine, which the first rtc makes from the VM's disk
# (integration/README.md; it must have been built). Prints milliseconds, and ratios to the first: minimum, first tenth,
# first quarter, median. Takes everything away again.
set -eu
rounds=$1; shift
first=$(realpath "$1")
image=$(ls -t "${RTC_CACHE:-/var/cache/rtc}"/vm/*/root.ext4 | head -1)
work=$(mktemp -d /tmp/rtc-bench-systemd-XXXXXX)
end() {
    timeout 20 "$first" --root "$work/state" delete --force rtc-bench-systemd 2>/dev/null || true
    umount "$work/b/rootfs" "$work/img" 2>/dev/null || true
    rmdir "$work/img" && rm -rf --one-file-system "$work"
}
trap end EXIT
mkdir -p "$work"/{img,up,work,b/rootfs}
mount -o loop,ro,noload "$image" "$work/img"
mount -t overlay overlay -o "lowerdir=$work/img,upperdir=$work/up,workdir=$work/work" "$work/b/rootfs"
root=$work/b/rootfs
names=
for at in $(seq 1 $#); do cp "${!at}" "$root/usr/bin/rtc-$at"; names="$names rtc-$at"; echo "rtc-$at is ${!at}"; done
rm -f "$root"/etc/systemd/system/multi-user.target.wants/*
ln -sf /dev/null "$root/etc/systemd/system/rtc-vm-agent.service"
mkdir -p "$root/opt/t/rootfs/bin"
cp "$root/usr/bin/busybox" "$root/opt/t/rootfs/bin/"
for name in sh true sleep; do ln -sf busybox "$root/opt/t/rootfs/bin/$name"; done
cat > "$root/opt/bench.pl" << 'PERL'
use strict;
# CLOCK_MONOTONIC: the disk's perl has no Time::HiRes.
sub now {
    my $spec = "\0" x 16;
    syscall(228, 1, $spec);
    my ($seconds, $nanoseconds) = unpack 'qq', $spec;
    $seconds + $nanoseconds / 1e9;
}
sub run {
    my @command = @_;
    my $start = now();
    my $pid = fork;
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', '/dev/null';
        open STDERR, '>', '/opt/err';
        exec @command;
        exit 99;
    }
    waitpid $pid, 0;
    my $time = (now() - $start) * 1000;
    if ($?) { system 'cat /opt/err'; die "@command: $?" }
    # Longer than a grace period, which the second of two commands in a row wouldn't wait for.
    select undef, undef, undef, 0.03;
    $time;
}
# crun waits for a second where the root of the hierarchy has processes.
mkdir '/sys/fs/cgroup/bench';
open my $procs, '>', '/sys/fs/cgroup/bench/cgroup.procs' or die;
syswrite $procs, '0';
my ($rounds, @who) = @ARGV;
my %times;
for my $round (0 .. $rounds) {
    push @who, shift @who;
    for my $who (@who) {
        my $program = $who eq 'crun' ? '/usr/lib/rtc-peers/new/crun' : $who;
        my $create = run($program, '--systemd-cgroup', 'create', '-b', '/opt/t', "x-$who");
        my $delete = run($program, 'delete', '-f', "x-$who");
        next unless $round;
        push @{$times{create}{$who}}, $create;
        push @{$times{delete}{$who}}, $delete;
    }
}
for my $what ('create', 'delete') {
    my @first;
    for my $who (sort { ($a eq 'crun') - ($b eq 'crun') || $a cmp $b } @who) {
        my @sorted = sort { $a <=> $b } @{$times{$what}{$who}};
        my @some = map { $sorted[@sorted * $_] } 0, 0.1, 0.25, 0.5;
        @first = @some unless @first;
        printf "%-8s %-7s %7.2f %7.2f %7.2f %7.2f   to rtc-1: %.2f %.2f %.2f %.2f\n", $who, $what, @some,
            map { $some[$_] / $first[$_] } 0 .. 3;
    }
}
PERL
(cd "$work/b" && "$first" spec)
(cd "$root/opt/t" && "$first" spec)
python3 - "$work" <<'P'
import json, sys
outer = sys.argv[1] + '/b/config.json'
c = json.load(open(outer))
caps = ['CAP_' + n for n in '''CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_BOOT SYS_NICE SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP SYSLOG BPF PERFMON CHECKPOINT_RESTORE'''.split()]
p, l = c['process'], c['linux']
p.update(terminal=False, args=['/sbin/init'], env=['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'container=oci'],
         capabilities={k: caps for k in ('bounding', 'effective', 'permitted')}, noNewPrivileges=False, rlimits=[])
c['root']['readonly'] = False
l.update(maskedPaths=[], readonlyPaths=[], resources={'devices': [{'allow': True, 'access': 'rwm'}]}, cgroupsPath='/rtc-bench-systemd')
if all(n['type'] != 'cgroup' for n in l['namespaces']): l['namespaces'].append({'type': 'cgroup'})
for m in c['mounts']:
    if m['destination'] in ('/sys', '/sys/fs/cgroup'): m['options'] = ['nosuid', 'noexec', 'nodev']
c['mounts'] += [{'destination': d, 'type': 'tmpfs', 'source': 'tmpfs', 'options': ['mode=' + o]} for d, o in (('/run', '755'), ('/tmp', '1777'))]
json.dump(c, open(outer, 'w'))
inner = sys.argv[1] + '/b/rootfs/opt/t/config.json'
c = json.load(open(inner))
c['process'].update(terminal=False, args=['/bin/sleep', '1000'], rlimits=[])
json.dump(c, open(inner, 'w'))
P
"$first" --root "$work/state" run -d -b "$work/b" rtc-bench-systemd </dev/null >"$work/log" 2>&1
for try in $(seq 100); do
    [ "$("$first" --root "$work/state" exec rtc-bench-systemd systemctl is-system-running 2>/dev/null)" = running ] && break
    sleep 0.1
done
timeout 110 "$first" --root "$work/state" exec rtc-bench-systemd perl /opt/bench.pl "$rounds" $names crun </dev/null
