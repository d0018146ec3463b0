# Containerd with rtc behind its runc shim, driven by ctr.
# seconds: 46

. /rtc/suites/ctr.sh
how="--runc-binary /usr/local/bin/rtc"
states=/run/containerd/runc/default

# nothing_left NAME: no state, no cgroup.
nothing_left() {
    same "" "$(rtc --root $states list -q)"
    [ ! -e /sys/fs/cgroup/default/"$1" ]
}

case_run_gives_output_and_exit_status() {
    output_and_exit_status
}

case_run_says_what_it_could_not_start() {
    a_program_that_is_not_there
}

case_run_sets_up_what_was_asked() {
    mkdir -p /tmp/volume
    echo from the host > /tmp/volume/file
    run --rm --env=COLOUR=blue --cwd=/data --read-only --user=65534:65534 --seccomp \
        --mount=type=bind,src=/tmp/volume,dst=/volume,options=rbind:ro asked sh -euxc '
            refused() { if "$@"; then exit 99; fi; }
            [ "$COLOUR" = blue ]
            [ "$(pwd)" = /data ]
            [ "$(id -u):$(id -g)" = 65534:65534 ]
            [ "$(cat /volume/file)" = "from the host" ]
            refused touch /volume/new
            refused touch /data/new
            grep -q "^Seccomp:.2$" /proc/self/status
            grep -q "^CapEff:.*0000000000000000$" /proc/self/status
            [ "$$" = 1 ]'
    rm -r /tmp/volume
}

case_limits_hold() {
    start_counter limits --memory-limit=67108864 --cpus=0.5
    same 67108864 "$(cat /sys/fs/cgroup/default/limits/memory.max)"
    same "50000 100000" "$(cat /sys/fs/cgroup/default/limits/cpu.max)"
    contains "$(inside limits cat /proc/1/cgroup)" /default/limits
    remove limits
}

case_a_terminal_is_one() {
    local out
    out=$(script -qec "ctr run --runc-binary /usr/local/bin/rtc -t --rm $image terminal sh -c 'test -t 0 && tty && ls -l /dev/console'" /dev/null)
    contains "$out" /dev/
    contains "$out" "136,"
}

case_exec_joins_the_container() {
    start_counter joined
    contains "$(inside joined ps -o pid,args)" "1 sh -c token"
    local status=0
    inside joined sh -c 'exit 9' || status=$?
    same 9 "$status"
    same "65534 /tmp" "$(ctr task exec --exec-id other --user 65534 --cwd /tmp joined sh -c 'echo $(id -u) $(pwd)')"
    fails inside joined no-such-program
    same 2 "$(ctr task ps joined | grep -c '^[0-9]')"
    contains "$(ctr task metrics joined)" memory
    remove joined
}

case_pause_kill_and_delete() {
    pause_kill_and_delete
}

case_checkpoint_and_restore() {
    checkpoint_and_restore io.containerd.runc.v2
}

case_checkpoint_and_exit() {
    start_counter leaves
    mkdir -p /tmp/images
    ctr task checkpoint --exit --image-path /tmp/images leaves
    until_true stopped leaves
    [ -n "$(ls /tmp/images)" ]
    ctr task delete leaves || [ $? = 137 ]
    ctr container delete leaves
    nothing_left leaves
    rm -r /tmp/images
}

case_redis_keeps_its_data() {
    run -d store sh -c 'redis-server --save "" --enable-debug-command yes --unixsocket /tmp/redis > /redis.log'
    until_true inside store redis-cli -s /tmp/redis ping
    inside store redis-cli -s /tmp/redis debug populate 1000 key 100
    inside store redis-cli -s /tmp/redis set answer 42
    ctr container checkpoint --task --rw --image store localhost/store:latest
    remove store
    ctr container restore --live --rw store localhost/store:latest
    same 1001 "$(inside store redis-cli -s /tmp/redis dbsize)"
    same 42 "$(inside store redis-cli -s /tmp/redis get answer)"
    remove store
    ctr image rm localhost/store:latest
}
