# Limits beside runc and crun of Debian sid: the files of the cgroup after `create` and each `update`, by the same
# config.json and the same command. Where a peer does something else, the table says what and why.
# seconds: 25
. /rtc/suites/limits-common.sh

top=/sys/fs/cgroup/limits
place=/limits/RUNTIME
flags=

differences='
no limits; crun runc; memory.low; max would protect all of its memory, -1 asks for no protection
everything; crun; hugetlb.2MB.rsvd.max; leaves out reservations, by which a program gets more than its limit
nothing asked; crun; status; refuses 0 as a kernel memory limit and network priorities that are empty
properties of version 1; crun; status; refuses them; they have no effect in runc
no pids; crun runc; pids.max; 0 is no limit to them; the specification 1.3 and runc since have it forbid all but one
a device of rdma; crun; status; leaves rdma out
real time; runc; status; leaves out what version 2 lacks
idle with a weight; runc; status; fails on the weight
update --memory 52428800; crun; memory.swap.max; leaves swap as it was, so that the sum changes
update --memory-swap 157286400; crun; memory.swap.max status; wants the memory limit again
update --cpu-period 50000; crun runc; cpu.max; take the quota away, runc only if another update came between
update --memory 41943040 --memory-swap 31457280; crun; memory.max; sets the memory limit before it fails
update {"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}; crun; hugetlb.2MB.rsvd.max; as with create
update {"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}; runc; hugetlb.2MB.max hugetlb.2MB.rsvd.max; leaves it out
'

setup() {
    prepare_bundles
}

cleanup() {
    drop_all
    rmdir $top
}

directory() {
    echo "$top/$1"
}

more() {
    :
}

forget() {
    :
}

begin() {
    prepare
    mkdir $top
    local controller
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" > $top/cgroup.subtree_control
    done
}

case_create() {
    begin
    created everything '{
        "memory": {"limit": 67108864, "swap": 100663296, "reservation": 33554432},
        "cpu": {"shares": 512, "quota": 50000, "period": 20000, "burst": 10000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 33},
        "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 254, "minor": 0, "rate": 1000000}],
            "throttleWriteIOPSDevice": [{"major": 254, "minor": 0, "rate": 400}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "unified": {"memory.high": "33554432", "memory.oom.group": "1", "cgroup.max.descendants": "5"}}' crun runc
    created "no limits" '{"memory": {"limit": -1, "swap": -1, "reservation": -1},
        "cpu": {"shares": 300000, "quota": -1, "period": 50000}, "pids": {"limit": -1}}' crun runc
    created "halves" '{"memory": {"limit": 67108864}, "cpu": {"shares": 2, "period": 50000, "idle": 0},
        "blockIO": {"weight": 10}}' crun
    created "unified goes before" '{"memory": {"limit": 67108864, "swap": 67108864}, "cpu": {"shares": 512, "quota": 50000},
        "pids": {"limit": 33}, "unified": {"memory.max": "50331648", "cpu.weight": "77", "cpu.max": "30000 60000",
        "pids.max": "44", "io.max": "254:0 rbps=1000000\n254:16 wbps=2000000"}}' crun runc
    created "swap without a memory limit" '{"memory": {"limit": -1, "swap": 100663296}, "pids": {}}' crun runc
    created "nothing asked" '{"memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}, "blockIO": {"weight": 0},
        "network": {"priorities": []}}' crun
    created "no pids" '{"pids": {"limit": 0}}' crun runc
    created "idle with a weight" '{"cpu": {"idle": 1, "shares": 512}}' crun runc
    created "properties of version 1" '{"memory": {"limit": 67108864, "kernel": 16777216, "swappiness": 60}}' crun
    verdict
    cleanup
}

case_refused() {
    begin
    refused "swap below memory" '{"memory": {"limit": 67108864, "swap": 33554432}}' crun
    refused "swap alone" '{"memory": {"swap": 100663296}}' crun
    refused "burst above the quota" '{"cpu": {"quota": 50000, "burst": 60000}}' crun
    refused "idle by another number" '{"cpu": {"idle": 2}}' crun
    refused "processors that aren't there" '{"cpu": {"cpus": "7"}}' crun
    refused "more pids than there are" '{"pids": {"limit": 4194305}}' crun
    refused "weight below 10" '{"blockIO": {"weight": 5}}' crun
    refused "a disk that isn't there" '{"blockIO": {"throttleReadBpsDevice": [{"major": 99, "minor": 9, "rate": 9}]}}' crun
    refused "pages of no size" '{"hugepageLimits": [{"pageSize": "64KB", "limit": 65536}]}' crun
    refused "a file that isn't there" '{"unified": {"memory.nosuch": "1"}}' crun
    refused "a controller that isn't there" '{"unified": {"nosuch.max": "1"}}' crun
    refused "a device of rdma" '{"rdma": {"mlx5_0": {"hcaHandles": 3}}}' crun
    refused "real time" '{"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 10000}}' runc
    verdict
    cleanup
}

case_update() {
    begin
    config '{"memory": {"limit": 67108864, "swap": 100663296}, "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 33}}'
    run_all rtc crun runc
    updated "--memory 52428800"
    updated "--memory 104857600 --memory-swap 125829120 --memory-reservation 10485760 --cpu-quota 20000"
    updated "--memory-swap 157286400"
    updated "--memory-swap -1 --pids-limit 20 --cpu-share 2048 --cpuset-cpus 0 --cpuset-mems 0"
    updated "--cpu-period 50000"
    updated '{"cpu":{"quota":30000,"period":60000,"burst":10000}}'
    updated '{"cpu":{"idle":1}}'
    updated "--cpu-share 100"
    updated '{"cpu":{"idle":0}}'
    updated "--memory 41943040 --memory-swap 31457280"
    updated "--memory -1 --cpu-quota -1 --cpu-period 60000 --pids-limit -1"
    updated '{"unified":{"memory.high":"40000000","pids.max":"11"},"blockIO":{"weight":300}}'
    updated '{"memory":{"limit":4096,"checkBeforeUpdate":true}}'
    contains "$(cat $work/output-rtc)" "rejecting memory limit"
    updated '{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}'
    verdict
    cleanup
}

case_every_difference_is_of_a_case() {
    local name
    while IFS= read -r name; do
        [ "$(grep -cF -e "${name#update }" /rtc/suites/limits.sh)" -ge 2 ]
    done < <(awk -F '; ' 'NF > 1 { print $1 }' <<< "$differences")
}
