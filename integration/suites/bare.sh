# rtc alone, on cgroup v2 with every controller: what the machines of developers often can't show.
# The rest of rtc's commands is tested on the host, where it is quicker.
# guest: shell debian12

. /rtc/suites/bundles.sh

case_limits_reach_the_files() {
    start limits 'while :; do sleep 1; done' "$limits"
    same 67108864 "$(group limits memory.max)"
    same 33554432 "$(group limits memory.low)"
    same 33554432 "$(group limits memory.swap.max)"
    same "50000 100000" "$(group limits cpu.max)"
    same 1000 "$(group limits cpu.max.burst)"
    same 33 "$(group limits pids.max)"
    same 0 "$(group limits cpuset.cpus)"
    same 0 "$(group limits cpuset.mems)"
    same 4194304 "$(group limits hugetlb.2MB.max)"
    same 1 "$(group limits memory.oom.group)"
    # The container sees its own part of the tree as the whole, at the usual place.
    same 0::/ "$(rtc exec limits cat /proc/self/cgroup)"
    same 33 "$(rtc exec limits cat /sys/fs/cgroup/pids.max)"
    finish limits
}

case_update_changes_limits() {
    start updated 'while :; do sleep 1; done' "$limits"
    rtc update --memory 100663296 --memory-swap 100663296 --cpu-quota 25000 --cpu-period 100000 --pids-limit 44 updated
    same 100663296 "$(group updated memory.max)"
    same 0 "$(group updated memory.swap.max)"
    same "25000 100000" "$(group updated cpu.max)"
    same 44 "$(group updated pids.max)"
    echo '{"memory": {"limit": 83886080}, "pids": {"limit": 55}}' | rtc update --resources=- updated
    same 83886080 "$(group updated memory.max)"
    same 55 "$(group updated pids.max)"
    same "25000 100000" "$(group updated cpu.max)"
    # Devices were not mentioned: they stay.
    rtc exec updated sh -c 'echo > /dev/null'
    finish updated
}

case_statistics_show_the_limits() {
    start stats 'while :; do sleep 1; done' "$limits"
    local stats
    stats=$(rtc events --stats stats)
    same "stats stats" "$(jq -r '.type + " " + .id' <<< "$stats")"
    same 67108864 "$(jq .data.memory.usage.limit <<< "$stats")"
    same 33 "$(jq .data.pids.limit <<< "$stats")"
    same true "$(jq '.data.pids.current >= 1 and .data.memory.usage.usage > 0 and .data.cpu.usage.total > 0' <<< "$stats")"
    finish stats
}

case_memory_limit_kills() {
    bundle hungry 'tail -n 1 /dev/zero' '.linux.resources.memory = {"limit": 16777216, "swap": 16777216}'
    local status=0
    rtc run -b /run/bundles/hungry hungry || status=$?
    same 137 "$status"
    rtc create -b /run/bundles/hungry hungry
    rtc events --interval 100ms hungry > /tmp/events &
    local listener=$!
    until_true grep -q stats /tmp/events
    rtc start hungry
    # It ends with the container's last process.
    wait $listener
    contains "$(cat /tmp/events)" '{"type":"oom","id":"hungry"}'
    rm /tmp/events
    finish hungry
}

case_pids_limit_holds() {
    bundle crowd 'for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; true' '.linux.resources.pids = {"limit": 5}'
    local status=0
    rtc run -b /run/bundles/crowd crowd 2> /tmp/err || status=$?
    [ "$status" != 0 ]
    contains "$(cat /tmp/err)" "can't fork"
    finish crowd
}

case_a_limit_the_kernel_refuses_undoes_create() {
    bundle refused true '.linux.resources.unified = {"no.such.file": "1"}'
    fails rtc create -b /run/bundles/refused refused 2> /tmp/err
    contains "$(cat /tmp/err)" no.such.file
    finish refused
}

case_device_rules_hold() {
    # The VM's disks: the second may be read and not written, the first neither.
    local major first second
    major=$((0x$(stat -c %t /dev/vda)))
    first=$((0x$(stat -c %T /dev/vda)))
    second=$((0x$(stat -c %T /dev/vdb)))
    start devices 'while :; do sleep 1; done' '.linux.resources.devices = [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "b", "major": '$major', "minor": '$second', "access": "r"}]'
    mknod /run/bundles/devices/rootfs/first b $major $first
    mknod /run/bundles/devices/rootfs/second b $major $second
    fails rtc exec devices head -c 1 /first
    same 4096 "$(rtc exec devices head -c 4096 /second | wc -c)"
    fails rtc exec devices sh -c 'exec 3<> /second'
    # What every container needs is allowed unasked.
    rtc exec devices sh -c 'echo > /dev/null && head -c 1 /dev/urandom > /dev/null'
    rtc exec devices sh -c 'exec 3<> /dev/ptmx'
    finish devices
}

case_pause_freezes() {
    start paused "$counter"
    until_true test -e /run/bundles/paused/rootfs/count
    rtc pause paused
    same paused "$(status paused)"
    contains "$(group paused cgroup.events)" "frozen 1"
    local before
    before=$(cat /run/bundles/paused/rootfs/count)
    sleep 1
    same "$before" "$(cat /run/bundles/paused/rootfs/count)"
    fails rtc pause paused
    rtc resume paused
    same running "$(status paused)"
    counts_on paused "$before"
    finish paused
}

case_everything_in_the_cgroup_dies() {
    start family 'sleep 1000 & setsid sleep 1000 & mkdir /sys/fs/cgroup/inner; wait' \
        '(.mounts[] | select(.destination == "/sys/fs/cgroup")).options |= map(select(. != "ro"))'
    until_true test -d /sys/fs/cgroup/bare/family/inner
    rtc exec -d family sleep 1000
    same 4 "$(rtc ps -f json family | jq length)"
    local pids
    pids=$(rtc ps -f json family | jq -r '.[]')
    rtc delete --force family
    local pid
    for pid in $pids; do
        [ ! -e "/proc/$pid" ]
    done
    finish family
}

case_a_relative_path_is_below_the_root() {
    start relative 'while :; do sleep 1; done' '.linux.cgroupsPath = "deep/er/relative"'
    local pid
    pid=$(rtc state relative | jq .pid)
    contains "$(cat "/proc/$pid/cgroup")" deep/er/relative
    finish relative
    same "" "$(find /sys/fs/cgroup -name relative)"
}
