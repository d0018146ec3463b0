# rtc's systemd driver with the machine's own systemd: the scope, its limits, its end.
# guest: systemd
# seconds: 40
. /rtc/suites/bundles.sh

loop='while :; do sleep 1; done'

cleanup() {
    remove_bundles
    systemctl reset-failed
}

# scoped NAME COMMAND [JQ-FILTER]: a bundle whose scope is test-NAME.scope in machine-rtc.slice.
scoped() {
    bundle "$1" "$2" '.linux.cgroupsPath = "machine-rtc.slice:test:'"$1"'" | '"${3:-.}"
}

# begin NAME COMMAND [JQ-FILTER]: runs one in the background.
begin() {
    scoped "$@"
    rtc --systemd-cgroup run -d -b "/run/bundles/$1" "$1" > /dev/null < /dev/null
}

# end NAME: removes the container, and checks that systemd knows nothing of it any more.
end() {
    finish "$1"
    same not-found "$(show "$1" LoadState)"
    [ ! -e "$(scope "$1")" ]
}

scope() {
    echo "/sys/fs/cgroup/machine.slice/machine-rtc.slice/test-$1.scope"
}

# show NAME PROPERTY: what systemd says.
show() {
    systemctl show -P "$2" "test-$1.scope"
}

# shows NAME PROPERTY VALUE, is NAME STATUS: whether it says so.
shows() {
    [ "$(show "$1" "$2")" = "$3" ]
}

is() {
    [ "$(status "$1")" = "$2" ]
}

# file NAME FILE: what the kernel says.
file() {
    cat "$(scope "$1")/$2"
}

case_a_scope_is_made_where_cgroupspath_says() {
    begin placed "$loop" '.annotations = {
        "org.systemd.property.KillSignal": "10", "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
        "org.systemd.property.RuntimeMaxSec": "3600", "org.systemd.property.Documentation": "[\"man:rtc(8)\"]"}'
    same /machine.slice/machine-rtc.slice/test-placed.scope "$(show placed ControlGroup)"
    same yes "$(show placed Delegate)"
    same inactive-or-failed "$(show placed CollectMode)"
    same 10 "$(show placed KillSignal)"
    same 7s "$(show placed TimeoutStopUSec)"
    same 1h "$(show placed RuntimeMaxUSec)"
    contains "$(show placed Documentation)" "man:rtc(8)"
    contains "$(cat "/proc/$(rtc state placed | jq .pid)/cgroup")" 0::/machine.slice/machine-rtc.slice/test-placed.scope
    same 1 "$(rtc exec placed cat /proc/self/cgroup | grep -cx 0::/)"
    rtc pause placed
    same paused "$(status placed)"
    rtc resume placed
    end placed
}

# A slice holds no processes by systemd's rules: they are in a scope in it, and the limits are the slice's.
case_a_container_may_have_a_slice_of_its_own() {
    bundle sliced "$loop" '.linux.cgroupsPath = "machine-rtc.slice:test:machine-rtc-own.slice"
        | .linux.resources.memory.limit = 67108864 | .linux.resources.pids.limit = 33
        | .annotations = {"org.systemd.property.Documentation": "[\"man:rtc(8)\"]"}'
    rtc --systemd-cgroup run -d -b /run/bundles/sliced sliced > /dev/null < /dev/null
    slice=/machine.slice/machine-rtc.slice/machine-rtc-own.slice
    of_slice() {
        systemctl show -P "$1" machine-rtc-own.slice
    }
    same $slice "$(of_slice ControlGroup)"
    same 67108864 "$(of_slice MemoryMax)"
    same 33 "$(of_slice TasksMax)"
    contains "$(of_slice Documentation)" "man:rtc(8)"
    same 33 "$(cat /sys/fs/cgroup$slice/pids.max)"
    same $slice/test-sliced.scope "$(show sliced ControlGroup)"
    contains "$(cat "/proc/$(rtc state sliced | jq .pid)/cgroup")" 0::$slice/test-sliced.scope
    contains "$(rtc exec sliced cat /proc/self/cgroup)" 0::/
    rtc update --pids-limit 20 sliced
    same 20 "$(of_slice TasksMax)"
    same 20 "$(cat /sys/fs/cgroup$slice/pids.max)"
    same 20 "$(rtc events --stats sliced | jq .data.pids.limit)"
    rtc pause sliced
    same paused "$(status sliced)"
    rtc resume sliced
    # Another's slice isn't taken over.
    bundle second "$loop" '.linux.cgroupsPath = "machine-rtc.slice:test:machine-rtc-own.slice"'
    fails rtc --systemd-cgroup run -d -b /run/bundles/second second 2> /tmp/err
    contains "$(cat /tmp/err)" "make machine-rtc-own.slice"
    fails rtc state second 2> /dev/null
    same running "$(status sliced)"
    finish sliced
    same not-found "$(show sliced LoadState)"
    [ ! -e /sys/fs/cgroup$slice ]
    # The name is free again.
    rtc --systemd-cgroup run -d -b /run/bundles/second second > /dev/null < /dev/null
    finish second
    bundle elsewhere "$loop" '.linux.cgroupsPath = "machine.slice:test:other.slice"'
    fails rtc --systemd-cgroup run -d -b /run/bundles/elsewhere elsewhere 2> /tmp/err
    contains "$(cat /tmp/err)" "machine-NAME.slice"
}

# The namespace shows the whole cgroup, in which the container makes others and hands controllers down.
case_a_cgroup_can_be_delegated() {
    begin given "$loop" '.annotations = {
        "run.oci.systemd.subgroup": "container", "run.oci.delegate-cgroup": "init"}'
    same 0::/init "$(rtc exec given cat /proc/self/cgroup | grep ^0:)"
    contains "$(cat "/proc/$(rtc state given | jq .pid)/cgroup")" /test-given.scope/container/init
    contains "$(file given container/cgroup.subtree_control)" pids
    same "" "$(file given container/cgroup.procs)"
    end given
}

case_limits_are_systemds_and_the_kernels() {
    begin limited "$loop" "$limits"' | .linux.resources.blockIO = {"weight": 750}'
    same 67108864 "$(show limited MemoryMax)"
    same 33554432 "$(show limited MemoryLow)"
    same 33554432 "$(show limited MemorySwapMax)"
    same 33 "$(show limited TasksMax)"
    same 500ms "$(show limited CPUQuotaPerSecUSec)"
    same 100ms "$(show limited CPUQuotaPeriodUSec)"
    same 0 "$(show limited AllowedCPUs)"
    same 0 "$(show limited AllowedMemoryNodes)"
    same strict "$(show limited DevicePolicy)"
    look() {
        same 67108864 "$(file limited memory.max)"
        same 33554432 "$(file limited memory.low)"
        same 33 "$(file limited pids.max)"
        same "50000 100000" "$(file limited cpu.max)"
        same "$(show limited CPUWeight)" "$(file limited cpu.weight)"
        same 0 "$(file limited cpuset.cpus)"
        same 4194304 "$(file limited hugetlb.2MB.max)"
        same 1 "$(file limited memory.oom.group)"
        # Forbidden devices stay so, allowed ones too.
        rtc exec --cap CAP_MKNOD limited sh -c 'echo x > /dev/null; rm -f /k; mknod /k c 1 11'
        fails rtc exec limited sh -c 'head -c 1 /k' 2> /tmp/err
        contains "$(cat /tmp/err)" "not permitted"
    }
    look
    systemctl daemon-reload
    look
    end limited
}

# As in privileged containers: systemd's own rules must not take away what config.json's give.
case_all_devices_may_be_allowed() {
    begin open "$loop" '.linux.resources.devices = [{"allow": true, "access": "rwm"}]'
    same auto "$(show open DevicePolicy)"
    rtc exec --cap CAP_MKNOD open sh -c 'mknod /k c 1 11 && : > /k'
    systemctl daemon-reload
    rtc exec open sh -c ': > /k'
    end open
}

case_update_tells_systemd() {
    begin updated "$loop" "$limits"
    rtc update --memory 50M --memory-swap 60M --memory-reservation 20M --pids-limit 20 --cpu-share 2048 updated
    same 52428800 "$(show updated MemoryMax)"
    same 52428800 "$(file updated memory.max)"
    same 10485760 "$(show updated MemorySwapMax)"
    same 20971520 "$(show updated MemoryLow)"
    same 20 "$(show updated TasksMax)"
    same 20 "$(file updated pids.max)"
    same "$(show updated CPUWeight)" "$(file updated cpu.weight)"
    # Half of a pair, and a value that systemd rounds.
    rtc update --cpu-quota 12345 updated
    same "12345 100000" "$(file updated cpu.max)"
    same 130ms "$(show updated CPUQuotaPerSecUSec)"
    # systemd writes all files anew, whatever changes.
    rtc update --pids-limit 19 updated
    same "12345 100000" "$(file updated cpu.max)"
    # It isn't told of what is refused.
    fails rtc update --cpu-quota 999 updated
    same 130ms "$(show updated CPUQuotaPerSecUSec)"
    rtc update --cpu-period 50000 updated
    same "12345 50000" "$(file updated cpu.max)"
    same 50ms "$(show updated CPUQuotaPeriodUSec)"
    rtc update --cpu-quota -1 --memory -1 --pids-limit -1 updated
    same infinity "$(show updated CPUQuotaPerSecUSec)"
    same infinity "$(show updated MemoryMax)"
    same infinity "$(show updated TasksMax)"
    same "max 50000" "$(file updated cpu.max)"
    same max "$(file updated memory.max)"
    echo '{"unified": {"memory.high": "40000000", "pids.max": "11"}}' | rtc update -r - updated
    same 40000000 "$(show updated MemoryHigh)"
    same 11 "$(show updated TasksMax)"
    end updated
}

case_idle_and_weight_exclude_each_other() {
    begin idle "$loop"
    rtc update --cpu-share 200 --cpu-idle 1 idle 2> /tmp/err
    contains "$(cat /tmp/err)" "unable to apply both"
    same 1 "$(file idle cpu.idle)"
    rtc update --memory 60M idle
    same 1 "$(file idle cpu.idle)"
    rtc update --cpu-share 200 idle
    same 0 "$(file idle cpu.idle)"
    same "$(show idle CPUWeight)" "$(file idle cpu.weight)"
    end idle
}

# The first process is at work while systemd makes its scope, and waits in it for nobody but its own runtime.
case_what_fails_while_systemd_works_is_told() {
    local broken='{"destination": "/x", "type": "bind", "source": "/nosuch", "options": ["bind"]}' filter
    for filter in ".mounts = [$broken] + .mounts" ".mounts += [$broken]"; do
        scoped broken "$loop" "$filter"
        fails rtc --systemd-cgroup run -d -b /run/bundles/broken broken > /dev/null 2> /tmp/err < /dev/null
        contains "$(cat /tmp/err)" /nosuch
        fails rtc state broken 2> /dev/null
        end broken
    done
}

case_a_killed_call_leaves_nothing() {
    scoped killed 'echo in the container'
    local limit
    for limit in 0.04 0.08 0.12 0.16 0.2 0.24 0.28; do
        timeout -s KILL $limit rtc --systemd-cgroup create -b /run/bundles/killed killed > /dev/null 2>&1 < /dev/null || true
        rtc delete --force killed 2> /dev/null || true
        # What the call has asked systemd for, systemd may do after it.
        until_true fails pgrep -x rtc
        until_true shows killed LoadState not-found
        until_true test ! -e "$(scope killed)"
    done
    same "in the container" "$(rtc --systemd-cgroup run -b /run/bundles/killed killed < /dev/null)"
    end killed
}

# What a tmpfs is filled with counts where it is used: its copy waits for the cgroup, though mounts as such don't.
case_a_tmpfs_counts_in_the_scope() {
    scoped copied "$loop" '.mounts = [{"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}]
        + .mounts'
    mkdir -p /run/bundles/copied/rootfs/data
    head -c 4194304 /dev/zero > /run/bundles/copied/rootfs/data/file
    rtc --systemd-cgroup create -b /run/bundles/copied copied > /dev/null < /dev/null
    [ "$(file copied memory.stat | sed -n 's/^shmem //p')" -ge 4194304 ]
    end copied
}

case_a_name_is_free_again_at_once() {
    scoped again 'exit 3'
    local round
    for round in 1 2 3; do
        rtc --systemd-cgroup run -b /run/bundles/again again < /dev/null || same 3 $?
        same not-found "$(show again LoadState)"
    done
    rtc --systemd-cgroup create -b /run/bundles/again again > /dev/null < /dev/null
    end again
}

case_delete_resets_a_failed_unit() {
    begin failed "$loop" '.annotations = {
        "org.systemd.property.RuntimeMaxSec": "1", "org.systemd.property.KillSignal": "9", "org.systemd.property.CollectMode": "\"inactive\""}'
    until_true shows failed ActiveState failed
    until_true is failed stopped
    end failed
}

case_a_container_may_live_below_its_scope() {
    begin below 'exec sleep 1000' "$limits"' | .annotations = {"run.oci.systemd.subgroup": "payload"}'
    local pid
    pid=$(rtc state below | jq .pid)
    contains "$(cat "/proc/$pid/cgroup")" test-below.scope/payload
    same "" "$(file below cgroup.procs)"
    same 33 "$(file below pids.max)"
    same max "$(file below payload/pids.max)"
    rtc exec -d below sleep 1000
    same 2 "$(file below payload/cgroup.procs | grep -c .)"
    rtc pause below
    same 1 "$(file below cgroup.freeze)"
    rtc resume below
    end below
}

case_what_systemd_can_not_name_is_refused() {
    bundle named "$loop"
    fails rtc --systemd-cgroup run -d -b /run/bundles/named named 2> /tmp/err
    contains "$(tr -d '\\' < /tmp/err)" 'of format "slice:prefix:name" for systemd cgroups, got "/bare/named" instead'
    fails rtc state named
    finish named
}

case_a_unit_of_others_is_left_alone() {
    systemd-run --quiet --unit=test-taken.scope --scope sleep 1000 &
    until_true shows taken ActiveState active
    scoped taken "$loop"
    fails rtc --systemd-cgroup run -d -b /run/bundles/taken taken 2> /tmp/err
    contains "$(cat /tmp/err)" test-taken.scope
    same active "$(show taken ActiveState)"
    fails rtc state taken
    systemctl stop test-taken.scope
    finish taken
}

case_a_wrong_property_is_told() {
    scoped wrong "$loop" '.annotations = {"org.systemd.property.NoSuchThing": "1"}'
    fails rtc --systemd-cgroup run -d -b /run/bundles/wrong wrong 2> /tmp/err
    contains "$(cat /tmp/err)" NoSuchThing
    end wrong
}

userns='.linux.namespaces += [{"type": "user"}]
    | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}] | .linux.gidMappings = .linux.uidMappings'

case_the_cgroup_is_the_containers_where_it_may_write() {
    local writable='(.mounts[] | select(.type == "cgroup") | .options) = ["rw"]'
    begin owned "$loop" "$userns | $writable"
    same 0 "$(rtc exec owned stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs | sort -u)"
    rtc exec owned sh -c 'mkdir /sys/fs/cgroup/sub && echo $$ > /sys/fs/cgroup/sub/cgroup.procs'
    fails rtc exec owned sh -c 'echo max > /sys/fs/cgroup/pids.max'
    end owned
    begin foreign "$loop" "$userns"
    same 65534 "$(rtc exec foreign stat -c %u /sys/fs/cgroup)"
    end foreign
}

case_exec_follows_init_into_a_leaf() {
    begin leaf 'mkdir /sys/fs/cgroup/init && echo $$ > /sys/fs/cgroup/init/cgroup.procs &&
        echo +pids > /sys/fs/cgroup/cgroup.subtree_control; '"$loop" \
        '(.mounts[] | select(.type == "cgroup") | .options) = ["rw"]'
    until_true grep -q pids "$(scope leaf)/cgroup.subtree_control"
    same 1 "$(rtc exec leaf cat /proc/self/cgroup | grep -cx 0::/init)"
    same 1 "$(rtc exec --cgroup init leaf cat /proc/self/cgroup | grep -cx 0::/init)"
    fails rtc exec --cgroup / leaf true 2> /tmp/err
    contains "$(cat /tmp/err)" "adding pid "
    contains "$(cat /tmp/err)" "device or resource busy"
    fails rtc exec --cgroup .. leaf true 2> /tmp/err
    contains "$(cat /tmp/err)" "bad sub cgroup path"
    fails rtc exec --cgroup nosuch leaf true 2> /tmp/err
    contains "$(cat /tmp/err)" "no such file or directory"
    end leaf
}

case_a_container_without_a_cgroup_of_its_own() {
    bundle none "$loop" 'del(.linux.cgroupsPath)'
    rtc --cgroup-manager disabled run -d -b /run/bundles/none none > /dev/null < /dev/null
    same "$(cat /proc/self/cgroup)" "$(cat "/proc/$(rtc state none | jq .pid)/cgroup")"
    rtc exec none true
    fails rtc pause none 2> /tmp/err
    contains "$(cat /tmp/err)" "no cgroup"
    finish none
}
