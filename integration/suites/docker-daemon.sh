# What Docker's daemon does to containers of rtc: cgroupfs as its driver, ends and starts of its own while they run,
# ids that are not the host's.
# guest: systemd
# seconds: 85

. /rtc/suites/dockerd.sh

setup() {
    start_docker '."default-runtime" = "rtc" | ."live-restore" = true'
    same "rtc cgroupfs true" "$(docker info -f '{{.DefaultRuntime}} {{.CgroupDriver}} {{.LiveRestoreEnabled}}')"
}

# group NAME FILE: of the container's cgroup, read on the host.
group() {
    cat "/sys/fs/cgroup/tests.cgroups/$(field "$1" .Id)/$2"
}

case_cgroupfs_and_a_daemon_that_is_restarted() {
    start_counter kept --cgroup-parent /tests.cgroups --memory 64m --memory-swap 64m --pids-limit 33 \
        --health-cmd 'test -e /count' --health-interval 2s
    docker run -d --name ends --network none --runtime io.containerd.rtc.v2 \
        $image sh -c 'trap "exit 6" TERM; '"$idle"
    same "67108864 33" "$(docker exec kept sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max | paste -sd" "')"
    docker update --memory 96m --memory-swap 96m --pids-limit 44 --restart always kept
    same "100663296 44" "$(docker exec kept sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max | paste -sd" "')"
    same 100663296 "$(group kept memory.max)"
    docker pause kept
    contains "$(group kept cgroup.events)" "frozen 1"
    docker unpause kept

    # While the daemon is down, one of them ends.
    local pid before
    pid=$(field kept .State.Pid)
    same "$pid" "$(group kept cgroup.procs | grep -x "$pid")"
    before=$(docker exec kept cat /count)
    systemctl stop docker.socket docker
    kill -TERM "$(rtc --root /run/containerd/rtc/moby list -f json | jq '.[0].pid')"
    restart_docker
    same "running $pid" "$(field kept '.State.Status}} {{.State.Pid')"
    until_true is ends exited .State.Status
    same 6 "$(field ends .State.ExitCode)"
    counts_on kept "$before"
    until_true is kept healthy .State.Health.Status
    docker rm -f kept ends
    rmdir /sys/fs/cgroup/tests.cgroups
    same "" "$(rtc --root /var/run/docker/runtime-runc/moby list -q; rtc --root /run/containerd/rtc/moby list -q)"
}

case_checkpoint_and_start_below_cgroupfs() {
    start_counter saved --cgroup-parent /tests.cgroups --memory 64m --memory-swap 64m
    docker checkpoint create saved point
    until_true is saved exited .State.Status
    local before
    before=$(docker cp saved:/count - | tar -xO)
    start_from saved point
    counts_on saved "$before"
    same 67108864 "$(group saved memory.max)"
    same 1 "$(group saved cgroup.procs | grep -cx "$(field saved .State.Pid)")"
    docker rm -f saved
    rmdir /sys/fs/cgroup/tests.cgroups
}

case_restart_policies_over_a_daemon_that_takes_all_down() {
    jq '."live-restore" = false' /etc/docker/daemon.json > /etc/docker/new.json
    mv /etc/docker/new.json /etc/docker/daemon.json
    systemctl reload docker
    local forever='trap "exit 0" TERM; '"$idle"
    docker run -d --name always --network none --restart always $image sh -c "$forever"
    docker run -d --name unless --network none --restart unless-stopped $image sh -c "$forever"
    docker run -d --name stopped --network none --restart unless-stopped $image sh -c "$forever"
    docker run -d --name never --network none $image sh -c "$forever"
    # It ends twice; without an end to that, its starts would keep the machine busy.
    docker run -d --name ends --network none --restart always $image \
        sh -c 'echo again; echo >> /starts; [ "$(wc -l < /starts)" -ge 3 ] || exit 0; '"$forever"
    docker stop always stopped
    until_true is ends 2 .RestartCount
    same again "$(docker logs ends | sort -u)"
    restart_docker
    until_true is always running .State.Status
    until_true is unless running .State.Status
    same "exited exited" "$(docker inspect -f '{{.State.Status}}' stopped never | paste -sd' ')"
    same again "$(docker logs ends | sort -u)"
    docker exec unless true
    docker rm -f always unless stopped never ends
}

case_ids_of_the_daemon_s_own() {
    start_docker '."default-runtime" = "rtc" | ."userns-remap" = "tester"'
    docker run -d --name mapped --network none --memory 64m -v data:/volume --tmpfs /scratch $image sh -c "$counter"
    until_true docker exec mapped test -e /count
    docker exec mapped sh -euxc '
        [ "$(cat /proc/1/uid_map /proc/1/gid_map | xargs)" = "0 100000 65536 0 100000 65536" ]
        [ "$(id -u) $(stat -c %u /bin/busybox /volume /scratch /proc/1 | sort -u)" = "0 0" ]
        [ "$(cat /sys/fs/cgroup/memory.max)" = 67108864 ]
        touch /volume/mine
        grep -q "^Seccomp:.2$" /proc/1/status'
    same 100000 "$(stat -c %u "$(docker volume inspect -f '{{.Mountpoint}}' data)/mine" "/proc/$(field mapped .State.Pid)" | sort -u)"
    same "65534" "$(docker exec -u 65534 mapped id -u)"
    local before
    before=$(docker exec mapped cat /count)
    docker checkpoint create mapped point
    until_true is mapped exited .State.Status
    start_from mapped point
    counts_on mapped "$before"
    # One container may have the host's.
    same "0 0 4294967295" "$(docker run --rm --network none --userns host --privileged $image cat /proc/self/uid_map | xargs)"
    docker rm -f -v mapped
    docker volume rm -f data
}
