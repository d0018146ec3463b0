# Limits beside runc and crun of Debian sid by systemd: the files of the scope's cgroup, and what systemd knows of it.
# guest: systemd
# seconds: 21
. /rtc/suites/limits-common.sh

top=/sys/fs/cgroup/machine.slice/machine-limits.slice
place=machine-limits.slice:test:RUNTIME
flags=--systemd-cgroup
properties=MemoryMax,MemoryHigh,MemoryLow,MemorySwapMax,CPUWeight,CPUQuotaPerSecUSec,CPUQuotaPeriodUSec,AllowedCPUs
properties=$properties,AllowedMemoryNodes,TasksMax,IOWeight,Delegate,Slice,DefaultDependencies,KillSignal
properties=$properties,TimeoutStopUSec,RuntimeMaxUSec,DevicePolicy,DeviceAllow

# With systemd, crun 1.28 leaves out idle, huge pages, device rules, updates of half a pair and most of unified, takes the
# sum of memory and swap for swap, and has a conversion of its own for the weight of I/O; so all but the first case are
# runc's alone. CollectMode is inactive in both peers, whose units that have failed have to be reset.
differences='
everything; crun; DeviceAllow DevicePolicy IOWeight MemorySwapMax hugetlb.2MB.max hugetlb.2MB.rsvd.max io.weight memory.oom.group memory.swap.max; see above
everything; runc; IOWeight; leaves it to the file
unified goes before; runc; MemorySwapMax; leaves a limit of 0 to the file, so that a reload of systemd lifts it
'

setup() {
    prepare_bundles
}

cleanup() {
    drop_all
    systemctl reset-failed
    systemctl stop machine-limits.slice
}

directory() {
    echo "$top/test-$1.scope"
}

more() {
    systemctl show -p $properties "test-$1.scope" | sed 's/=/:/'
}

forget() {
    systemctl stop "test-$1.scope" || true
}

# A reload of systemd writes all that it knows to the files anew.
reloaded() {
    local runtime
    systemctl daemon-reload
    mv $work/seen-rtc $work/before
    look rtc 0
    same "" "$(diff $work/before $work/seen-rtc)"
}

case_create() {
    prepare
    created everything '{
        "memory": {"limit": 67108864, "swap": 100663296, "reservation": 33554432},
        "cpu": {"shares": 512, "quota": 50000, "period": 20000, "burst": 10000, "cpus": "0", "mems": "0"},
        "devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
            {"allow": true, "type": "b", "major": 254, "access": "r"}],
        "pids": {"limit": 33}, "blockIO": {"weight": 500}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "unified": {"memory.high": "33554432", "memory.oom.group": "1"}}' crun runc
    filter='.linux.resources.devices = [{"allow": true, "access": "rwm"}] | .annotations = {
        "org.systemd.property.KillSignal": "10", "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
        "org.systemd.property.RuntimeMaxSec": "3600"}'
    created "no limits" '{"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1, "period": 50000},
        "pids": {"limit": -1}}' runc
    filter=.
    created "unified goes before" '{"memory": {"limit": 67108864, "swap": 67108864}, "cpu": {"shares": 512, "quota": 50000},
        "pids": {"limit": 33}, "unified": {"memory.max": "50331648", "cpu.weight": "77", "cpu.max": "30000 60000",
        "pids.max": "44"}}' runc
    verdict
    # Alone: runc's init is a Go program and doesn't always live with one thread.
    config '{"pids": {"limit": 1}}'
    call rtc create -b $work/rtc rtc > /dev/null 2>&1 < /dev/null
    same 1 "$(cat "$(directory rtc)/pids.max")"
    same TasksMax=1 "$(systemctl show -p TasksMax test-rtc.scope)"
    cleanup
}

case_update() {
    prepare
    config '{"memory": {"limit": 67108864, "swap": 100663296}, "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 33}}'
    run_all rtc runc
    updated "--memory 52428800 --cpu-quota 20000"
    updated "--memory 104857600 --memory-swap 125829120 --memory-reservation 10485760 --pids-limit 20 --cpu-period 50000"
    updated '{"cpu":{"idle":1}}'
    updated '{"cpu":{"shares":200,"cpus":"0","mems":"0"},"unified":{"memory.high":"40000000"}}'
    reloaded
    updated "--memory -1 --cpu-quota -1 --cpu-period 50000 --pids-limit -1"
    reloaded
    verdict
    cleanup
}
