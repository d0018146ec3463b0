# Podman with rtc as its only runtime: the flows of its users, each looked at from inside the container too.
# seconds: 205

. /rtc/suites/podman-common.sh

case_run_gives_output_and_exit_status() {
    local status=0
    podman run --rm $image sh -c 'echo out; echo err >&2; exit 7' > /tmp/out 2> /tmp/err || status=$?
    same 7 "$status"
    same out "$(cat /tmp/out)"
    same err "$(cat /tmp/err)"
    same hi "$(echo hi | podman run --rm -i $image cat)"
}

case_run_says_what_it_could_not_start() {
    local status=0
    podman run --rm $image no-such-program 2> /tmp/err || status=$?
    same 127 "$status"
    contains "$(cat /tmp/err)" "executable file"
    status=0
    podman run --rm $image /etc/passwd 2> /tmp/err || status=$?
    same 126 "$status"
    contains "$(cat /tmp/err)" "permission denied"
    same "" "$(podman ps -aq)"
}

case_run_sets_up_what_was_asked() {
    mkdir -p /tmp/volume
    echo from the host > /tmp/volume/file
    podman run --rm --hostname inner --user 65534:65534 --workdir /data --env COLOUR=blue --read-only \
        --volume /tmp/volume:/volume:ro --tmpfs /scratch:size=1m --cap-drop all --cap-add net_bind_service \
        --ulimit nofile=300:400 --sysctl net.ipv4.ip_unprivileged_port_start=77 --security-opt no-new-privileges \
        $image sh -euxc '
            refused() { if "$@"; then exit 99; fi; }
            [ "$(hostname)" = inner ]
            [ "$(id -u):$(id -g)" = 65534:65534 ]
            [ "$(pwd)" = /data ]
            [ "$COLOUR" = blue ]
            [ "$(cat /volume/file)" = "from the host" ]
            refused touch /volume/new
            refused touch /data/new
            touch /scratch/new
            grep -q "^CapBnd:.*0000000000000400$" /proc/self/status
            grep -q "^CapEff:.*0000000000000400$" /proc/self/status
            grep -q "^NoNewPrivs:.1$" /proc/self/status
            grep -q "^Seccomp:.2$" /proc/self/status
            [ "$(ulimit -Sn):$(ulimit -Hn)" = 300:400 ]
            [ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" = 77 ]
            [ "$$" = 1 ]
            [ "$(cat /proc/kcore 2> /dev/null | wc -c)" = 0 ]
        '
    rm -r /tmp/volume
}

case_limits_hold_and_change() {
    start_counter limits --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 33
    podman exec limits sh -euc '
        cd /sys/fs/cgroup
        [ "$(cat memory.max)" = 67108864 ]
        [ "$(cat memory.swap.max)" = 0 ]
        [ "$(cat cpu.max)" = "50000 100000" ]
        [ "$(cat pids.max)" = 33 ]'
    same 67108864 "$(cat "$(cgroup limits)/memory.max")"
    podman update --memory 96m --memory-swap 96m --cpus 0.25 --pids-limit 44 limits
    podman exec limits sh -euc '
        cd /sys/fs/cgroup
        [ "$(cat memory.max)" = 100663296 ]
        [ "$(cat cpu.max)" = "25000 100000" ]
        [ "$(cat pids.max)" = 44 ]
        echo works > /dev/null'
    contains "$(podman stats --no-stream --format '{{.Name}} {{.MemUsage}}' limits)" "/ 100.7MB"
    podman rm -f -t 0 limits
}

case_memory_limit_kills() {
    local status=0
    # tail keeps its input, which has no line's end, in memory.
    podman run --name hungry --memory 16m --memory-swap 16m $image sh -c 'tail -n 1 /dev/zero' || status=$?
    same 137 "$status"
    same true "$(field hungry .State.OOMKilled)"
    podman rm hungry
}

case_exec_joins_the_container() {
    podman run -d --name execs --hostname inner --env COLOUR=blue $image sh -c 'trap "exit 0" TERM; '"$idle"
    same "inner blue" "$(podman exec execs sh -c 'echo $(hostname) $COLOUR')"
    contains "$(podman exec execs ps -o pid,args)" "1 sh -c trap"
    local status=0
    podman exec execs sh -c 'exit 9' || status=$?
    same 9 "$status"
    status=0
    podman exec execs no-such-program 2> /tmp/err || status=$?
    same 127 "$status"
    same hi "$(echo hi | podman exec -i execs cat)"
    same "65534 /tmp red" "$(podman exec -u nobody -w /tmp -e COLOUR=red execs sh -c 'echo $(id -u) $(pwd) $COLOUR')"
    contains "$(podman exec -t execs sh -c 'test -t 0 && test -t 1 && tty')" /dev/pts/
    podman exec -d execs sh -c 'echo done > /detached'
    until_true podman exec execs grep done /detached
    podman stop -t 60 execs
    same "exited 0" "$(field execs '.State.Status}} {{.State.ExitCode')"
    fails podman exec execs true
    podman rm execs
}

case_a_terminal_is_one() {
    local out
    out=$(podman run --rm -t $image sh -c 'test -t 0 && test -t 2 && stty size > /dev/null && tty && ls -l /dev/console')
    contains "$out" /dev/
    contains "$out" "136,"
}

case_signals_arrive_and_logs_remain() {
    podman run -d --name signals $image sh -c 'trap "echo usr1" USR1; trap "echo bye; exit 5" TERM
        echo ready; '"$idle"
    until_true contained_in_logs signals ready
    podman kill -s USR1 signals
    until_true contained_in_logs signals usr1
    podman stop -t 60 signals
    same 5 "$(field signals .State.ExitCode)"
    same "ready usr1 bye" "$(podman logs signals | paste -sd' ')"
    podman start signals
    same running "$(field signals .State.Status)"
    podman kill signals
    podman wait signals
    same 137 "$(field signals .State.ExitCode)"
    podman rm signals
}

case_pause_stops_the_clock() {
    start_counter pausing
    podman pause pausing
    same paused "$(field pausing .State.Status)"
    contains "$(cat "$(cgroup pausing)/cgroup.events")" "frozen 1"
    local before merged
    merged=$(podman mount pausing)
    before=$(cat "$merged/count")
    sleep 1
    same "$before" "$(cat "$merged/count")"
    podman unpause pausing
    same running "$(field pausing .State.Status)"
    counts_on pausing "$before"
    podman umount pausing
    podman rm -f -t 0 pausing
}

case_rm_leaves_nothing() {
    start_counter remove
    local pid group
    pid=$(field remove .State.Pid)
    group=$(cgroup remove)
    [ -d "$group" ]
    podman rm -f -t 0 remove
    [ ! -e "/proc/$pid" ]
    [ ! -e "$group" ]
    same "" "$(rtc list -q)"
}

case_namespaces_are_shared_by_path() {
    start_counter first
    local join
    for join in pid ipc network; do
        podman run --rm --$join container:first $image readlink /proc/self/ns/${join/network/net} > /tmp/joined
        same "$(podman exec first readlink /proc/self/ns/${join/network/net})" "$(cat /tmp/joined)"
    done
    contains "$(podman run --rm --pid container:first $image ps -o pid,args)" "1 sh -c token"
    podman rm -f -t 0 first
}

case_rtc_answers_for_criu() {
    same /usr/local/bin/rtc "$(readlink -f "$(command -v criu)")"
    contains "$(criu --version)" rtc
    criu check
    rtc checkpoint --help > /dev/null
}

case_checkpoint_and_restore() {
    start_counter saved
    local before merged
    podman container checkpoint saved
    same "exited true" "$(field saved '.State.Status}} {{.State.Checkpointed')"
    same "" "$(rtc list -q)"
    merged=$(podman mount saved)
    before=$(cat "$merged/count")
    podman umount saved
    podman container restore saved
    same running "$(field saved .State.Status)"
    counts_on saved "$before"
    # A second time, and the restored container is a full one.
    podman container checkpoint saved
    podman container restore saved
    counts_on saved "$before"
    podman pause saved
    podman unpause saved
    podman kill saved
    podman wait saved
    same 137 "$(field saved .State.ExitCode)"
    podman rm saved
}

case_checkpoint_leaves_it_running() {
    start_counter copied
    local before
    before=$(podman exec copied cat /count)
    podman container checkpoint --leave-running --export /tmp/copied.tar.gz copied
    same running "$(field copied .State.Status)"
    counts_on copied "$before"
    podman container restore --import /tmp/copied.tar.gz --name copy
    # Both run, the same program at two places.
    counts_on copy "$before"
    counts_on copied "$before"
    podman rm -f -t 0 copied copy
    rm /tmp/copied.tar.gz
}

case_an_exported_container_comes_back_elsewhere() {
    start_counter here --memory 64m --hostname inner
    podman exec here sh -c 'echo kept > /data/file'
    local before
    before=$(podman exec here cat /count)
    podman container checkpoint --export /tmp/here.tar here
    podman rm here
    same "" "$(podman ps -aq)"
    podman container restore --import /tmp/here.tar --name there
    counts_on there "$before"
    same "kept inner 67108864" \
        "$(podman exec there sh -euc 'cat /data/file; hostname; cat /sys/fs/cgroup/memory.max' | paste -sd' ')"
    podman rm -f -t 0 there
    rm /tmp/here.tar
}

case_output_volumes_and_stats_go_on() {
    mkdir -p /tmp/volume
    podman run -d -i --name talks --volume /tmp/volume:/volume $image sh -c 'exec 3>> /volume/log; i=0
        while :; do i=$((i + 1)); echo "out $i"; echo "err $i" >&2; echo "volume $i" >&3; sleep 0.1; done'
    until_true contained_in_logs talks 'out 3'
    local stats
    stats=$(podman container checkpoint --keep --file-locks --print-stats talks)
    same true "$(jq '.container_statistics[0].criu_statistics | .memdump_time >= 0 and .pages_written > 0' <<< "$stats")"
    local before
    before=$(podman logs talks 2> /dev/null | grep -c out)
    stats=$(podman container restore --keep --file-locks --print-stats talks)
    same true "$(jq '.container_statistics[0].criu_statistics | .restore_time > 0' <<< "$stats")"
    until_true contained_in_logs talks "out $((before + 5))"
    until_true contained_in_logs talks "err $((before + 5))"
    until_true grep -qx "volume $((before + 5))" /tmp/volume/log
    # No line was lost or written twice, and the numbers rise by one all the way.
    podman stop -t 0 talks
    podman logs talks 2> /dev/null | awk '$1 == "out" && $2 != ++i { print; exit 1 }'
    awk '$2 != NR { print; exit 1 }' /tmp/volume/log
    podman rm talks
    rm -r /tmp/volume
}

case_a_terminal_comes_back() {
    podman run -dt --name console $image sh -c 'stty -echo; while read -r line; do echo "got $line"; done'
    podman container checkpoint console
    podman container restore console
    same running "$(field console .State.Status)"
    podman exec console sh -c 'test -t 0 < /proc/1/fd/0 && test -c /dev/console'
    echo hello | timeout 60 podman attach --detach-keys= console > /tmp/attached &
    until_true contained_in_logs console 'got hello'
    podman rm -f -t 0 console
    wait
}

case_a_checkpoint_becomes_an_image() {
    start_counter imaged
    podman container checkpoint --create-image localhost/imaged imaged
    local before merged
    merged=$(podman mount imaged)
    before=$(cat "$merged/count")
    podman umount imaged
    podman rm imaged
    podman container restore --name fresh localhost/imaged
    counts_on fresh "$before"
    podman rm -f -t 0 fresh
    podman rmi localhost/imaged
}

case_redis_keeps_its_data() {
    podman run -d --name store --tmpfs /dev/shm $image sh -c '
        redis-server --save "" --appendonly yes --dir /data --enable-debug-command yes > /redis.log &
        until redis-cli ping > /dev/null 2>&1; do sleep 0.1; done
        redis-cli subscribe news > /news.log < /dev/null &
        wait'
    until_true podman exec store grep -q news /news.log
    podman exec store sh -euc 'redis-cli debug populate 1000 key 100; redis-cli set answer 42; echo shared > /dev/shm/file'
    podman container checkpoint --tcp-established store
    fails podman exec store redis-cli ping
    podman container restore --tcp-established store
    same "1001 42 shared" "$(podman exec store sh -euc 'redis-cli dbsize; redis-cli get answer; cat /dev/shm/file' | paste -sd' ')"
    # The client that was connected all the time still listens.
    same 1 "$(podman exec store redis-cli publish news hello)"
    until_true podman exec store grep -qx hello /news.log
    same OK "$(podman exec store redis-cli set later 1)"
    until_true podman exec store grep -rq later /data/appendonlydir
    podman rm -f -t 0 store
}

case_user_namespaces_and_mapped_mounts() {
    mkdir -p /tmp/mapped
    echo mine > /tmp/mapped/file
    chown 7:7 /tmp/mapped/file
    podman run --rm --uidmap 0:100000:5000 --gidmap 0:200000:5000 --volume /tmp/mapped:/plain \
        --volume /tmp/mapped:/mapped:idmap $image sh -euxc '
            [ "$(tr -s " " < /proc/self/uid_map)" = " 0 100000 5000" ]
            [ "$(tr -s " " < /proc/self/gid_map)" = " 0 200000 5000" ]
            touch /data/new
            [ "$(stat -c %u:%g /data/new /bin/busybox | paste -sd" ")" = "0:0 0:0" ]
            [ "$(stat -c %u:%g /plain/file)" = 65534:65534 ]
            [ "$(stat -c %u:%g /mapped/file)" = 7:7 ]'
    podman run --rm --mount 'type=bind,src=/tmp/mapped,dst=/mapped,idmap=uids=7-1000-1;gids=7-2000-1' $image \
        sh -c '[ "$(stat -c %u:%g /mapped/file)" = 1000:2000 ]'
    rm -r /tmp/mapped
}

case_init_security_and_devices() {
    podman run --rm --init --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        --security-opt mask=/proc/version --security-opt unmask=/proc/kcore --device /dev/vdb:/dev/disk:r \
        --oom-score-adj 100 --shm-size 2m --umask 0077 --group-add 99 --network none \
        --cpu-shares 512 --cpuset-cpus 0 --memory-reservation 20m --blkio-weight 500 $image sh -euxc '
            refused() { if "$@"; then exit 99; fi; }
            [ "$(cat /proc/1/comm)" = podman-init ]
            grep -q "^Seccomp:.0$" /proc/self/status
            [ "$(cat /proc/self/attr/current)" = unconfined ]
            [ "$(wc -c < /proc/version)" = 0 ]
            [ "$(stat -c %s /proc/kcore)" != 0 ]
            [ "$(head -c 10 /dev/disk | wc -c)" = 10 ]
            refused sh -c "echo > /dev/disk"
            [ "$(cat /proc/self/oom_score_adj)" = 100 ]
            df -k /dev/shm | grep -q " 2048 "
            [ "$(umask)" = 0077 ]
            id -G | grep -qw 99
            cd /sys/fs/cgroup
            [ "$(cat cpuset.cpus memory.low | paste -sd" ")" = "0 20971520" ]'
    # A profile of the user's own, and everything at once that --privileged stands for.
    echo '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO",
        "errnoRet": 28}]}' > /tmp/profile.json
    podman run --rm --security-opt seccomp=/tmp/profile.json $image sh -c '! mkdir /data/new 2> /data/err &&
        grep "No space" /data/err'
    podman run --rm --privileged $image sh -euxc '
        grep -q "^CapEff:.*1ffffffffff$" /proc/self/status
        [ -b /dev/vda ]
        mount -t tmpfs none /data'
}

case_health_files_and_copies() {
    podman run -d --name whole --health-cmd 'test -e /ok' --health-interval disable $image sleep 1000
    fails podman healthcheck run whole
    podman exec whole touch /ok
    podman healthcheck run whole
    same healthy "$(field whole .State.Health.Status)"
    contains "$(podman top whole pid args)" "sleep 1000"
    podman cp /etc/hostname whole:/data/name
    same "$(hostname)" "$(podman exec whole cat /data/name)"
    contains "$(podman diff whole)" "A /data/name"
    podman restart -t 0 whole
    same "$(hostname)" "$(podman exec whole cat /data/name)"
    podman rm -f -t 0 whole
}

case_images_are_built() {
    mkdir -p /tmp/context
    cat > /tmp/context/Containerfile << 'END'
FROM localhost/rtc-test
RUN echo built > /data/file && id -u > /data/id
RUN --mount=type=tmpfs,target=/scratch grep -q ' /scratch tmpfs ' /proc/mounts
USER 65534
CMD cat /data/file /data/id && id -u
END
    podman build -q --network none -t localhost/built /tmp/context
    same "built 0 65534" "$(podman run --rm localhost/built | paste -sd' ')"
    podman rmi localhost/built
    rm -r /tmp/context
}

case_containers_talk_on_a_network_and_to_the_host() {
    podman network create inner
    podman run -d --name web --network inner -p 8080:80 $image sh -c 'echo hello > index.html; exec httpd -f -p 80'
    until_true curl -sf localhost:8080/index.html
    same hello "$(podman run --rm --network inner $image wget -qO- http://web/index.html)"
    same hello "$(curl -s localhost:8080/index.html)"
    podman container checkpoint web
    fails curl -s localhost:8080/index.html
    podman container restore web
    same hello "$(curl -s localhost:8080/index.html)"
    podman rm -f -t 0 web
    podman network rm inner
}

case_pods_share_what_pods_share() {
    podman load -q -i /usr/lib/rtc-images/pause.tar
    podman pod create --name pod --infra-image localhost/rtc-pause --network none --share net,ipc,uts,pid --memory 96m
    podman run -d --pod pod --name front $image sh -c 'echo in pod > index.html; exec httpd -f -p 80'
    podman run -d --pod pod --name back $image sleep 1000
    same "in pod" "$(podman exec back sh -c "$fetch")"
    contains "$(podman exec back ps -o args)" "httpd -f"
    same 100663296 "$(cat "$(dirname "$(cgroup back)")/memory.max")"
    podman pod pause pod
    same paused "$(field front .State.Status)"
    podman pod unpause pod
    podman kube generate pod > /tmp/pod.yaml
    podman pod rm -f -t 0 pod
    podman kube play --network none /tmp/pod.yaml
    until_true podman exec pod-front test -e /index.html
    same running "$(field pod-back .State.Status)"
    podman kube down --force /tmp/pod.yaml
    same "" "$(podman ps -aq)"
    rm /tmp/pod.yaml
}

case_a_restored_container_is_confined_as_before() {
    start_counter confined --security-opt no-new-privileges --cap-drop all --cap-add dac_override
    local before after
    before=$(podman exec confined sh -c 'grep -E "^(Cap|NoNew|Seccomp)" /proc/1/status; cat /proc/1/attr/current')
    contains "$before" "containers-default-"
    podman container checkpoint confined
    podman container restore confined
    after=$(podman exec confined sh -c 'grep -E "^(Cap|NoNew|Seccomp)" /proc/1/status; cat /proc/1/attr/current')
    same "$before" "$after"
    podman rm -f -t 0 confined
}
