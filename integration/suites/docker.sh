# Docker with rtc as its default runtime and systemd as its cgroup driver, in the guest where both are services.
# guest: systemd
# seconds: 118

. /rtc/suites/dockerd.sh

setup() {
    start_docker 'del(."exec-opts") | ."default-runtime" = "rtc"'
    same "rtc systemd 2" "$(docker info -f '{{.DefaultRuntime}} {{.CgroupDriver}} {{.CgroupVersion}}')"
}

# scope NAME: where the container's cgroup is on the host.
scope() {
    echo "/sys/fs/cgroup/system.slice/docker-$(field "$1" .Id).scope"
}

case_run_sets_up_what_was_asked() {
    local status=0
    mkdir -p /tmp/volume
    echo from the host > /tmp/volume/file
    docker run --rm --init --network none --hostname inner --user 65534:65534 --workdir /data --env COLOUR=blue \
        --read-only --tmpfs /scratch:size=1m -v /tmp/volume:/volume:ro --cap-drop all --cap-add net_bind_service \
        --ulimit nofile=300:400 --sysctl net.ipv4.ip_unprivileged_port_start=77 --security-opt no-new-privileges \
        --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 33 --device /dev/vdb:/dev/disk:r --group-add 6 \
        $image sh -euxc '
            refused() { if "$@"; then exit 99; fi; }
            [ "$(cat /proc/1/comm)" = docker-init ]
            [ "$(hostname)" = inner ]
            [ "$(id -u):$(id -g)" = 65534:65534 ]
            [ "$(pwd)" = /data ]
            [ "$COLOUR" = blue ]
            [ "$(cat /volume/file)" = "from the host" ]
            refused touch /volume/new
            refused touch /data/new
            touch /scratch/new
            grep -q "^CapBnd:.*0000000000000400$" /proc/self/status
            grep -q "^NoNewPrivs:.1$" /proc/self/status
            grep -q "^Seccomp:.2$" /proc/self/status
            [ "$(cat /proc/self/attr/current)" = "docker-default (enforce)" ]
            [ "$(ulimit -Sn):$(ulimit -Hn)" = 300:400 ]
            [ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" = 77 ]
            cd /sys/fs/cgroup
            [ "$(cat memory.max pids.max cpu.max | paste -sd" ")" = "67108864 33 50000 100000" ]
            [ "$(cat memory.swap.max)" = 0 ]
            [ -b /dev/disk ]
            exit 7' 2> /tmp/err || status=$?
    [ "$status" = 7 ] || cat /tmp/err
    same 7 "$status"
    status=0
    docker run --rm --network none $image no-such-program 2> /tmp/err || status=$?
    same 127 "$status"
    contains "$(cat /tmp/err)" "executable file"
    rm -r /tmp/volume
}

case_a_container_lives_as_docker_says() {
    docker run -d --name life --network none --memory 64m --memory-swap 64m $image \
        sh -c 'trap "echo bye; exit 5" TERM; trap "echo usr1" USR1; echo ready; '"$idle"
    [ -d "$(scope life)" ]
    same 67108864 "$(docker exec life cat /sys/fs/cgroup/memory.max)"
    local status=0
    docker exec -u 65534 -w /tmp -e COLOUR=red life sh -c '[ "$(id -u) $(pwd) $COLOUR" = "65534 /tmp red" ] && exit 9' || status=$?
    same 9 "$status"
    contains "$(docker exec -t life tty)" /dev/pts/
    docker update --memory 96m --memory-swap 96m --cpus 0.25 --pids-limit 44 life
    same "100663296 44 25000 100000" "$(docker exec life sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max | paste -sd" "')"
    contains "$(docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' life)" "/ 96MiB"
    contains "$(docker top life)" "trap"
    docker pause life
    contains "$(cat "$(scope life)/cgroup.events")" "frozen 1"
    docker unpause life
    docker kill -s USR1 life
    until_true logged life usr1
    docker stop -t 60 life
    same "exited 5" "$(field life '.State.Status}} {{.State.ExitCode')"
    same "ready usr1 bye" "$(docker logs life | paste -sd' ')"
    docker start life
    docker kill life
    until_true is life exited .State.Status
    same 137 "$(field life .State.ExitCode)"
    local group
    group=$(scope life)
    docker rm life
    [ ! -e "$group" ]
    same "" "$(rtc --root /var/run/docker/runtime-runc/moby list -q)"
}

case_containers_talk_on_a_network_and_to_the_host() {
    docker network create inner
    docker run -d --name store --network inner $image redis-server --save "" --bind 0.0.0.0 --protected-mode no
    docker run -d --name web --network inner -p 8080:80 $image sh -c 'echo hello > index.html; exec httpd -f -p 80'
    docker run --rm --network inner $image sh -euxc '
        until redis-cli -h store ping; do sleep 0.1; done
        redis-cli -h store set answer 42
        until wget -qO /dev/null http://web/index.html; do sleep 0.1; done
        [ "$(wget -qO- http://web/index.html)" = hello ]'
    same 42 "$(docker exec store redis-cli get answer)"
    same hello "$(curl -s localhost:8080/index.html)"
    docker rm -f store web
    docker network rm inner
}

case_restart_policy_health_and_memory() {
    docker run -d --name again --network none --restart on-failure:2 $image sh -c 'exit 4'
    docker run -d --name healthy --network none --health-cmd 'test -e /ok' --health-interval 2s --health-retries 1 \
        $image sleep 1000
    until_true is healthy unhealthy .State.Health.Status
    docker exec healthy touch /ok
    until_true is healthy healthy .State.Health.Status
    until_true is again 2 .RestartCount
    until_true is again exited .State.Status
    same 4 "$(field again .State.ExitCode)"
    local status=0
    docker run --name hungry --network none --memory 16m --memory-swap 16m $image tail -n 1 /dev/zero || status=$?
    # Not .State.OOMKilled: runc's shim reads of it in the cgroup, in a race with systemd, which removes that.
    same 137 "$status"
    docker rm -f again healthy hungry
}

# rtc's own shim tells of the kill before the end, whatever has become of the cgroup by then.
case_memory_that_runs_out_behind_our_shim() {
    local number status
    for number in 1 2; do
        status=0
        docker run --name hungry$number --runtime io.containerd.rtc.v2 --network none --memory 16m --memory-swap 16m \
            $image tail -n 1 /dev/zero || status=$?
        same "137 true" "$status $(field hungry$number .State.OOMKilled)"
    done
    docker rm -f hungry1 hungry2
}

case_namespaces_of_another_and_what_exec_asks_for() {
    local began
    began=$(date +%s)
    docker run -d --name target --network none --shm-size 2m --ipc shareable --sysctl kernel.msgmax=4242 $image sleep 1000
    docker run --rm --network container:target --pid container:target --ipc container:target \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined --cgroupns host $image sh -euxc '
            [ "$(cat /proc/1/comm)" = sleep ]
            grep -q "^0::/system.slice/docker-[0-9a-f]*.scope$" /proc/self/cgroup
            for kind in net pid ipc; do [ "$(readlink /proc/1/ns/$kind)" = "$(readlink /proc/self/ns/$kind)" ]; done
            [ "$(df -k /dev/shm | awk "END { print \$2 }")" = 2048 ]
            [ "$(cat /proc/sys/kernel/msgmax)" = 4242 ]
            [ "$(cat /proc/self/attr/current)" = unconfined ]
            grep -q "^Seccomp:.0$" /proc/self/status'
    echo '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 121}]}' > /tmp/profile.json
    contains "$(docker run --rm --network none --security-opt seccomp=/tmp/profile.json $image mkdir /new 2>&1 || true)" \
        "Remote I/O error"
    same "$(sed -n 's/^CapBnd/CapEff/p' /proc/self/status)" "$(docker exec --privileged target grep CapEff /proc/self/status)"
    docker exec -d -e WORD=later -w /data target sh -c 'echo $WORD > word'
    until_true docker exec target grep -x later /data/word
    echo from the host > /tmp/file
    docker cp /tmp/file target:/data/
    same "from the host" "$(docker cp target:/data/file - | tar -xO)"
    docker commit -c 'CMD cat /data/word /data/file' target committed
    same "later from the host" "$(docker run --rm --network none committed | paste -sd' ')"
    docker image rm committed
    same "PID COMMAND sleep" "$(docker top target -o pid,comm | sed 's/[0-9]//g' | xargs)"
    docker rm -f target
    local events
    events=$(docker events --since "$began" --until "$(($(date +%s) + 1))" --filter container=target --format '{{.Action}}')
    # Each kind once, in the order of their first time.
    same "create start exec_create exec_start exec_die pause unpause kill die destroy" "$(sed 's/:.*//' <<< "$events" |
        awk '!seen[$0]++' | grep -v -e top -e archive -e extract -e commit | xargs)"
    rm /tmp/profile.json /tmp/file
}

# Options that no other case asks for.
case_limits_devices_and_mounts_of_other_kinds() {
    local disk part
    disk=$(cat /sys/block/vdb/dev)
    mkdir -p /tmp/volume/sub
    mount -t tmpfs sub /tmp/volume/sub
    docker volume create parts
    part=$(docker volume inspect -f '{{.Mountpoint}}' parts)/one
    mkdir "$part"
    echo a part > "$part/file"
    docker run -d --name odd --network none --uts host --pid host --device-cgroup-rule "b $disk r" --env DISK=$disk --cap-add mknod \
        --cap-add sys_admin --security-opt apparmor=unconfined --oom-score-adj 321 --security-opt systempaths=unconfined \
        --cgroup-parent odd.slice --cpuset-cpus 0 --cpu-shares 512 --blkio-weight 300 \
        --memory-reservation 20m --stop-signal USR1 --annotation colour=blue --ipc private --privileged=false \
        --mount type=bind,src=/tmp/volume,dst=/deep,readonly --mount type=volume,src=parts,dst=/part,volume-subpath=one \
        --mount type=bind,src=/tmp/volume,dst=/flat,readonly,bind-recursive=writable \
        --mount type=bind,src=/tmp/volume,dst=/alone,bind-recursive=disabled \
        --mount type=bind,src=/tmp/volume,dst=/shared,bind-propagation=rshared \
        --mount type=tmpfs,dst=/scratch,tmpfs-size=1m,tmpfs-mode=0701 \
        $image sh -c 'trap "exit 9" USR1; read -r line; echo "<$line>"; '"$idle"
    docker exec odd sh -euxc '
        refused() { if "$@"; then exit 99; fi; }
        [ "$(cat /proc/1/comm) $(hostname)" = "systemd rtc-vm" ]
        mknod /tmp/allowed b ${DISK%:*} ${DISK#*:}
        mknod /tmp/other b ${DISK%:*} 0
        [ "$(head -c 10 /tmp/allowed | wc -c)" = 10 ]
        refused sh -c "echo > /tmp/allowed"
        refused head -c 10 /tmp/other
        ! grep " /proc/" /proc/self/mounts
        refused touch /deep/new
        refused touch /deep/sub/new
        refused touch /flat/new
        touch /flat/sub/new
        [ -z "$(ls /alone/sub)" ]
        [ "$(cat /part/file) $(ls /part)" = "a part file" ]
        [ "$(stat -c %a /scratch)" = 701 ]
        mkdir /shared/made
        mount -t tmpfs made /shared/made'
    # Read where the machine's files are seen, for the score is that of the first process, and exec has its own.
    same 321 "$(cat "/proc/$(field odd .State.Pid)/oom_score_adj")"
    local group=/sys/fs/cgroup/odd.slice/docker-$(field odd .Id).scope
    same "0 59 20971520" "$(cat "$group/cpuset.cpus" "$group/cpu.weight" "$group/memory.low" | paste -sd' ')"
    same "default 2930" "$(cat "$group/io.weight")"
    same "made" "$(awk '$2 == "/tmp/volume/made" { print $1 }' /proc/mounts)"
    same blue "$(jq -r .annotations.colour "$(ls -d /run/containerd/io.containerd.runtime.v2.task/moby/*/config.json)")"
    docker stop -t 60 odd
    same 9 "$(field odd .State.ExitCode)"
    docker rm odd
    docker volume rm parts
    umount /tmp/volume/sub /tmp/volume/made
    rm -r /tmp/volume
}

case_checkpoint_and_start_from_it() {
    checkpoint_and_start rtc
}

# checkpoint_and_start RUNTIME
checkpoint_and_start() {
    start_counter saved --runtime "$1"
    docker checkpoint create saved first
    # Docker tells no shim but runc's that the container is to end.
    [ "$1" = rtc ] || docker kill saved
    until_true is saved exited .State.Status
    contains "$(docker checkpoint ls saved)" first
    local before
    before=$(docker cp saved:/count - | tar -xO)
    start_from saved first
    counts_on saved "$before"
    same "docker-default (enforce)" "$(docker exec saved cat /proc/1/attr/current)"
    docker rm -f saved
}

# With a terminal, a network whose port is published, a volume, a tmpfs, an init and a check of its health; and as often
# as one likes.
case_checkpoints_of_a_container_with_everything() {
    docker network create inner
    docker run -dit --name laden --network inner -p 8080:80 --init -v data:/volume --tmpfs /scratch --read-only --tmpfs /srv \
        --health-cmd 'test -e /scratch/well' --health-interval 1h --health-start-period 1h --health-start-interval 1s \
        --memory 64m $image sh -c 'httpd -p 80 -h /srv; stty -echo; while read -r line; do echo "got $line" | tee -a /volume/log; done'
    docker exec laden sh -c 'touch /scratch/well; echo hello > /srv/index.html'
    until_true curl -sf localhost:8080/index.html
    same hello "$(curl -s localhost:8080/index.html)"
    until_true is laden healthy .State.Health.Status
    # As a check of health does that is slow: the checkpoint waits for its end.
    docker exec -d laden sleep 2
    docker checkpoint create --leave-running laden first
    same running "$(field laden .State.Status)"
    docker checkpoint create laden second
    until_true is laden exited .State.Status
    same "first second" "$(docker checkpoint ls laden | awk 'NR > 1 { print $1 }' | xargs)"
    docker checkpoint rm laden first
    same second "$(docker checkpoint ls laden | awk 'NR > 1 { print $1 }' | xargs)"
    fails curl -s localhost:8080/index.html
    start_from laden second
    same hello "$(curl -s localhost:8080/index.html)"
    until_true is laden healthy .State.Health.Status
    same docker-init "$(docker exec laden cat /proc/1/comm)"
    mkfifo /tmp/keys
    exec 8<> /tmp/keys
    script -qefc "docker attach laden" /dev/null < /tmp/keys > /tmp/attached &
    echo typed >&8
    until_true docker exec laden grep -x 'got typed' /volume/log
    docker rm -f -v laden
    wait
    exec 8>&-
    rm /tmp/keys /tmp/attached
    docker volume rm -f data
    docker network rm inner
}

case_rtcs_own_shim() {
    local runtime=io.containerd.rtc.v2
    local status=0
    docker run --rm --network none --runtime $runtime $image sh -c 'echo out; echo err >&2; exit 4' \
        > /tmp/out 2> /tmp/err || status=$?
    same 4 "$status"
    same out "$(cat /tmp/out)"
    contains "$(cat /tmp/err)" err
    docker run -d --name web --network none --memory 64m --runtime $runtime $image sh -c "echo begun; $idle"
    local id
    id=$(docker inspect -f '{{.Id}}' web)
    same active "$(systemctl is-active "docker-$id.scope")"
    same "1 inside" "$(docker exec -e WORD=inside web sh -c 'echo $(ps | grep -c "[b]egun") $WORD')"
    contains "$(script -qec "docker exec -t web sh -c 'test -t 1 && echo is a terminal'" /dev/null)" "is a terminal"
    same begun "$(docker logs web)"
    docker update --memory 80m --memory-swap 160m web
    same 83886080 "$(systemctl show -P MemoryMax "docker-$id.scope")"
    contains "$(docker stats --no-stream --format '{{.MemUsage}}' web)" "80MiB"
    docker pause web
    same paused "$(docker inspect -f '{{.State.Status}}' web)"
    docker unpause web
    docker stop --time 0 web
    same 137 "$(docker inspect -f '{{.State.ExitCode}}' web)"
    docker start web
    same running "$(docker inspect -f '{{.State.Status}}' web)"
    docker rm -f web
    until_true no_shim
}

case_checkpoint_by_rtcs_own_shim() {
    checkpoint_and_start io.containerd.rtc.v2
    until_true no_shim
}

no_shim() {
    ! ps -eo args= | grep -q '^[^ ]*/containerd-shim-rtc-v2 '
}
