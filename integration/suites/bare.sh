# rtc alone, on cgroup v2 with every controller: what the machines of developers often can't show.
# The rest of rtc's commands is tested on the host, where it is quicker.

base=/var/lib/rtc-test

setup() {
    install_rtc
    mkdir -p $base/rootfs /run/bundles
    local layers=$base/image
    mkdir -p $layers
    tar -C $layers -xf /usr/lib/rtc-images/test.tar
    tar -C $base/rootfs -xf "$layers/$(jq -r '"blobs/sha256/" + .layers[0].digest[7:]' "$layers/blobs/sha256/$(
        jq -r '.manifests[0].digest[7:]' $layers/index.json)")"
    rm -r $layers
}

# bundle NAME COMMAND [JQ-FILTER]: a bundle with a root of its own, whose init is a shell running COMMAND.
bundle() {
    local dir=/run/bundles/$1
    mkdir -p "$dir/rootfs" "$dir/upper" "$dir/work"
    mount -t overlay -o "lowerdir=$base/rootfs,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/rootfs"
    (cd "$dir" && rtc spec)
    jq --arg command "$2" --arg id "$1" '
        .process.terminal = false | .process.args = ["sh", "-c", $command] | .root.readonly = false |
        .linux.cgroupsPath = "/bare/" + $id |
        .linux.namespaces |= (map(select(.type != "cgroup")) + [{"type": "cgroup"}]) |
        '"${3:-.}" "$dir/config.json" > "$dir/new.json"
    mv "$dir/new.json" "$dir/config.json"
}

# start NAME COMMAND [JQ-FILTER]: makes a bundle and runs it in the background.
start() {
    bundle "$@"
    rtc run -d -b "/run/bundles/$1" "$1" > /dev/null 2>&1 < /dev/null
}

# finish NAME: removes container and bundle, and checks that nothing of them is left.
finish() {
    rtc delete --force "$1"
    umount "/run/bundles/$1/rootfs"
    rm -r "/run/bundles/$1"
    [ ! -e "/sys/fs/cgroup/bare/$1" ]
    same "" "$(rtc list -q | grep -x "$1" || true)"
    same "" "$(grep -F "/run/bundles/$1" /proc/self/mountinfo || true)"
}

cleanup() {
    local name
    for name in /run/bundles/*; do
        rtc delete --force "${name##*/}"
        umount "$name/rootfs"
        rm -r "$name"
    done
}

# group NAME FILE: a file of the container's cgroup, read on the host.
group() {
    cat "/sys/fs/cgroup/bare/$1/$2"
}

status() {
    rtc state "$1" | jq -r .status
}

# Counts in memory alone, under a token that is drawn once per start.
counter='token=$(od -An -N8 -tx8 /dev/urandom | tr -d " "); i=0
    while :; do i=$((i + 1)); echo "$token $i" > /count.new; mv /count.new /count; sleep 0.05; done'

# counts_on NAME TOKEN NUMBER: the same program, further than before.
counts_on() {
    local seen
    while :; do
        seen=$(cat "/run/bundles/$1/rootfs/count")
        same "$2" "${seen% *}"
        [ "${seen#* }" -le "$3" ] || return 0
        sleep 0.1
    done
}

# All limits that the kernel keeps in a file, in three places: config, files, update.
limits='.linux.resources += {
    "memory": {"limit": 67108864, "reservation": 33554432, "swap": 100663296},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 33},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
    "unified": {"memory.oom.group": "1", "cpu.max.burst": "1000"}}'

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
    counts_on paused "${before% *}" "${before#* }"
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

case_checkpoint_and_restore_with_limits() {
    start saved "$counter" "$limits"
    until_true test -e /run/bundles/saved/rootfs/count
    rtc checkpoint --image-path /tmp/saved saved
    local before
    before=$(cat /run/bundles/saved/rootfs/count)
    fails rtc state saved
    [ ! -e /sys/fs/cgroup/bare/saved ]
    rtc restore -d --image-path /tmp/saved -b /run/bundles/saved saved
    same running "$(status saved)"
    counts_on saved "${before% *}" "${before#* }"
    same 67108864 "$(group saved memory.max)"
    same 33 "$(group saved pids.max)"
    same 1 "$(group saved cgroup.procs | grep -cx "$(rtc state saved | jq .pid)")"
    same 0::/ "$(rtc exec saved cat /proc/1/cgroup)"
    finish saved
    rm -r /tmp/saved
}

case_a_paused_container_is_saved_and_stays_paused() {
    start icy "$counter"
    until_true test -e /run/bundles/icy/rootfs/count
    rtc pause icy
    local before
    before=$(cat /run/bundles/icy/rootfs/count)
    rtc checkpoint --leave-running --image-path /tmp/icy icy
    same paused "$(status icy)"
    same "$before" "$(cat /run/bundles/icy/rootfs/count)"
    rtc resume icy
    counts_on icy "${before% *}" "${before#* }"
    rtc kill icy KILL
    until_true test "$(status icy)" = stopped
    rtc delete icy
    rtc restore -d --image-path /tmp/icy -b /run/bundles/icy icy
    counts_on icy "${before% *}" "${before#* }"
    finish icy
    rm -r /tmp/icy
}

case_a_process_of_exec_is_not_lost_silently() {
    start joined "$counter"
    until_true test -e /run/bundles/joined/rootfs/count
    rtc exec -d joined sleep 1000
    fails rtc checkpoint --image-path /tmp/joined joined 2> /tmp/err
    contains "$(cat /tmp/err)" "process sleep"
    same running "$(status joined)"
    pkill -xf 'sleep 1000'
    until_true rtc checkpoint --image-path /tmp/joined joined
    finish joined
    rm -r /tmp/joined
}

case_redis_under_a_memory_limit() {
    start store 'redis-server --save "" --appendonly yes --dir /data --enable-debug-command yes > /redis.log' \
        '.linux.resources.memory = {"limit": 134217728}'
    until_true rtc exec store redis-cli ping
    rtc exec store redis-cli debug populate 20000 key 1000
    rtc exec store redis-cli set answer 42
    rtc checkpoint --image-path /tmp/store store
    [ ! -e /sys/fs/cgroup/bare/store ]
    rtc restore -d --image-path /tmp/store -b /run/bundles/store store
    same 20001 "$(rtc exec store redis-cli dbsize)"
    same 42 "$(rtc exec store redis-cli get answer)"
    same 134217728 "$(group store memory.max)"
    finish store
    rm -r /tmp/store
}
