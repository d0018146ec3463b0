# rtc's own shim under systemd: its cgroups by the path's form alone, behind containerd and behind docker.
# guest: systemd

image=localhost/rtc-test:latest
runtime=io.containerd.rtc.v2

setup() {
    install_rtc
    systemctl start containerd
    ctr image import /usr/lib/rtc-images/test.tar
}

cleanup() {
    local name
    for name in $(ctr container ls -q); do
        ctr task delete --force "$name"
        ctr container delete "$name"
    done
    for name in $(docker ps -aq); do
        docker rm -f "$name"
    done
}

ended() {
    [ -z "$(ctr task ls | grep "^$1 .*RUNNING")" ]
}

case_a_systemd_path_makes_a_scope() {
    ctr run --runtime $runtime -d --cgroup system.slice:ctr:scoped --memory-limit=67108864 $image scoped sleep 1000
    same active "$(systemctl is-active ctr-scoped.scope)"
    same 67108864 "$(systemctl show -P MemoryMax ctr-scoped.scope)"
    contains "$(cat "/proc/$(ctr task ls | awk '$1 == "scoped" { print $2 }')/cgroup")" /system.slice/ctr-scoped.scope
    contains "$(ctr task metrics scoped)" 67108864
    ctr task kill -s 9 scoped
    until_true ended scoped
    ctr task delete scoped || [ $? = 137 ]
    ctr container delete scoped
    until_true fails systemctl is-active ctr-scoped.scope
}

case_docker_runs_by_it() {
    systemctl start docker
    docker image inspect $image > /dev/null 2>&1 || docker load -i /usr/lib/rtc-images/test.tar
    local status=0
    docker run --rm --network none --runtime $runtime $image sh -c 'echo out; echo err >&2; exit 4' \
        > /tmp/out 2> /tmp/err || status=$?
    same 4 "$status"
    same out "$(cat /tmp/out)"
    contains "$(cat /tmp/err)" err
    docker run -d --name web --network none --memory 64m --runtime $runtime $image sh -c 'echo begun; while :; do sleep 0.1; done'
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

no_shim() {
    ! ps -eo args= | grep -q '^[^ ]*/containerd-shim-rtc-v2 '
}
