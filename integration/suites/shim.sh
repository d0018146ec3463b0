# Containerd with rtc behind its own shim, driven by ctr.
# seconds: 62

. /rtc/suites/ctr.sh
how="--runtime io.containerd.rtc.v2"
states=/run/containerd/rtc/default

# shims: pids of the shims that run.
shims() {
    ps -C containerd-shim -o pid= || true
}

# nothing_left NAME: no shim, no state, no mount, no cgroup.
nothing_left() {
    until_true no_shim
    same "" "$(rtc --root $states list -q)"
    same "" "$(grep "task/default/$1/" /proc/mounts || true)"
    [ ! -e /sys/fs/cgroup/default/"$1" ]
    same "" "$(ls /run/containerd/s)"
}

no_shim() {
    [ -z "$(shims)" ]
}

case_run_gives_output_and_exit_status() {
    output_and_exit_status
}

case_big_output_arrives_whole() {
    run --rm big sh -c 'i=0; while [ $i -lt 8 ]; do head -c 1000000 /dev/zero; i=$((i + 1)); done' > /tmp/out
    same 8000000 "$(stat -c %s /tmp/out)"
    rm /tmp/out
}

case_input_is_read_to_its_end() {
    head -c 300000 /dev/zero | run --rm reads sh -c 'wc -c' > /tmp/out
    same 300000 "$(cat /tmp/out)"
}

case_run_says_what_it_could_not_start() {
    a_program_that_is_not_there
}

case_limits_hold_and_metrics_tell() {
    start_counter limits --memory-limit=67108864 --cpus=0.5
    same 67108864 "$(cat /sys/fs/cgroup/default/limits/memory.max)"
    same "50000 100000" "$(cat /sys/fs/cgroup/default/limits/cpu.max)"
    local metrics
    metrics=$(ctr task metrics --format json limits)
    same 67108864 "$(jq -r .memory.usage_limit <<< "$metrics")"
    [ "$(jq -r .memory.usage <<< "$metrics")" -gt 10000 ]
    [ "$(jq -r .cpu.usage_usec <<< "$metrics")" -gt 1000 ]
    [ "$(jq -r .pids.current <<< "$metrics")" -ge 1 ]
    remove limits
    nothing_left limits
}

case_a_terminal_is_one() {
    local out
    out=$(script -qec "ctr run --runtime io.containerd.rtc.v2 -t --rm $image terminal sh -c 'test -t 0 && tty && ls -l /dev/console; stty size; exit 3'" /dev/null) || same 3 $?
    contains "$out" /dev/
    contains "$out" "136,"
    nothing_left terminal
}

case_exec_joins_the_container() {
    start_counter joined
    contains "$(inside joined ps -o pid,args)" "1 sh -c token"
    local status=0
    inside joined sh -c 'exit 9' || status=$?
    same 9 "$status"
    same "65534 /tmp" "$(ctr task exec --exec-id other --user 65534 --cwd /tmp joined sh -c 'echo $(id -u) $(pwd)')"
    fails inside joined no-such-program
    contains "$(script -qec "ctr task exec -t --exec-id tty joined sh -c 'test -t 1 && echo is a terminal'" /dev/null)" "is a terminal"
    same hello "$(echo hello | inside joined cat)"
    [ "$(ctr task ps joined | grep -c '^[0-9]')" -ge 1 ]
    same 1 "$(shims | wc -l)"
    remove joined
    nothing_left joined
}

case_an_end_by_a_real_time_signal_is_told() {
    start_counter timed
    local status=0
    inside timed sh -c 'kill -36 $$' || status=$?
    same 164 "$status"
    remove timed
    nothing_left timed
}

case_pause_kill_and_delete() {
    pause_kill_and_delete
}

case_checkpoint_and_restore() {
    checkpoint_and_restore io.containerd.rtc.v2
}

case_events_are_told() {
    local listener
    listen
    run --rm told true
    until_true grep -q /tasks/delete /tmp/events
    kill $listener
    local topics
    topics=$(grep -o '/tasks/[a-z-]*' /tmp/events | tr '\n' ' ')
    same "/tasks/create /tasks/start /tasks/exit /tasks/delete " "$topics"
}

case_memory_that_runs_out_is_told() {
    local listener
    listen
    local status=0
    # A shell's variable grows by doubling.
    run --rm --memory-limit=16777216 hungry sh -c 'x=0123456789; while :; do x=$x$x; done' || status=$?
    same 137 "$status"
    until_true grep -q /tasks/delete /tmp/events
    kill $listener
    contains "$(cat /tmp/events)" /tasks/oom
}

# forgotten NAME: containerd knows no process of it.
forgotten() {
    [ -z "$(status "$1")" ]
}

case_a_dead_shim_leaves_nothing() {
    start_counter orphan
    kill -9 $(shims)
    until_true forgotten orphan
    ctr container delete orphan
    nothing_left orphan
}

case_output_goes_to_files_and_programs() {
    run -d --log-uri=file:///tmp/file.log filed sh -c 'echo to the file; echo and this >&2'
    until_true stopped filed
    same "to the file" "$(head -n 1 /tmp/file.log)"
    contains "$(cat /tmp/file.log)" "and this"
    ctr task delete filed
    ctr container delete filed
    printf '#!/bin/sh\nexec 5>&-\necho "$CONTAINER_NAMESPACE/$CONTAINER_ID $1" > /tmp/program.log\ncat <&3 >> /tmp/program.log\necho end >> /tmp/program.log\n' > /tmp/logger
    chmod +x /tmp/logger
    run -d '--log-uri=binary:///tmp/logger?word=x' logged sh -c 'echo to the program'
    until_true grep -q end /tmp/program.log
    same "default/logged word" "$(head -n 1 /tmp/program.log)"
    contains "$(cat /tmp/program.log)" "to the program"
    ctr task delete logged
    ctr container delete logged
    rm /tmp/logger /tmp/*.log
}

case_containerd_may_be_restarted() {
    start_counter stays
    local before
    before=$(inside stays cat /count)
    local containerd
    # The suite of the CRI has one of its own, with options.
    containerd=$(pgrep -fx containerd)
    kill "$containerd"
    until_true test ! -e /proc/"$containerd"
    setsid containerd >> /var/log/containerd.log 2>&1 < /dev/null &
    until_true ctr version
    same RUNNING "$(status stays)"
    counts_on stays "$before"
    remove stays
    nothing_left stays
}

case_less_memory_than_runcs_shim() {
    local name sum
    for name in one two three; do
        start_counter mine-$name
        ctr run -d --runc-binary /usr/local/bin/rtc $image theirs-$name sh -c "$counter"
        until_true inside theirs-$name test -e /count
    done
    # Private and proportional kilobytes of all shims of a kind.
    sum() {
        local pid
        for pid in $(ps -eo pid=,args= | awk -v name="$1" '$2 ~ name { print $1 }'); do
            cat /proc/"$pid"/smaps_rollup
        done | awk '/^Rss:/ { r += $2 } /^Pss:/ { p += $2 } /^Private_Dirty:/ { d += $2 }
            END { print r / 3, p / 3, d / 3 }'
    }
    local mine theirs
    mine=$(sum containerd-shim-rtc-v2)
    theirs=$(sum containerd-shim-runc-v2)
    echo "RSS, PSS, private dirty in KiB a container: rtc $mine, runc $theirs" | tee /tmp/shim-memory
    awk -v mine="$mine" -v theirs="$theirs" 'BEGIN { split(mine, m); split(theirs, t); exit !(m[2] * 4 < t[2]) }'
    for name in one two three; do
        remove mine-$name
        remove theirs-$name
    done
}
