# rtc's own shim under systemd: its cgroups by the path's form alone.
# guest: systemd
# seconds: 26

. /rtc/suites/ctr.sh
how="--runtime io.containerd.rtc.v2"

setup() {
    install_rtc
    systemctl start containerd
    load_image
}

case_a_systemd_path_makes_a_scope() {
    run -d --cgroup=system.slice:ctr:scoped --memory-limit=67108864 scoped sleep 1000
    same active "$(systemctl is-active ctr-scoped.scope)"
    same 67108864 "$(systemctl show -P MemoryMax ctr-scoped.scope)"
    contains "$(cat "/proc/$(ctr task ls | awk '$1 == "scoped" { print $2 }')/cgroup")" /system.slice/ctr-scoped.scope
    contains "$(ctr task metrics scoped)" 67108864
    remove scoped
    until_true fails systemctl is-active ctr-scoped.scope
}

# systemd removes the scope's cgroup, with its counts, as soon as its last process is gone.
case_memory_that_runs_out_is_always_told() {
    # Seen with 20 as well.
    local times=6 listener number program status
    listen
    for number in $(seq $times); do
        # The first process, or one that it waits for.
        program='tail -n 1 /dev/zero; exit $?'
        [ $((number % 2)) = 0 ] || program='exec tail -n 1 /dev/zero'
        status=0
        run --rm "--cgroup=system.slice:ctr:hungry$number" --memory-limit=8388608 "hungry$number" sh -c "$program" || status=$?
        same 137 "$status"
    done
    deleted() {
        [ "$(grep -c /tasks/delete /tmp/events)" = $times ]
    }
    until_true deleted
    kill $listener
    for number in $(seq $times); do
        same "/tasks/create /tasks/start /tasks/oom /tasks/exit /tasks/delete" \
            "$(grep "\"hungry$number\"" /tmp/events | grep -o '/tasks/[a-z-]*' | paste -sd' ')"
    done
}

# told: whether containerd has heard of the end.
told() {
    grep -q /tasks/exit /tmp/events
}

# The cgroup is gone when the shim looks.
case_memory_that_runs_out_while_the_shim_sleeps_is_told() {
    local program pid shim listener
    for program in 'exec tail -n 1 /dev/zero' 'tail -n 1 /dev/zero; exit $?'; do
        listen
        run -d --cgroup=system.slice:ctr:late --memory-limit=8388608 late sh -c "until [ -e /go ]; do sleep 0.1; done; $program"
        until_true grep -q /tasks/start /tmp/events
        pid=$(ctr task ls | awk '$1 == "late" { print $2 }')
        shim=$(ps -o ppid= -p "$pid" | tr -d ' ')
        kill -STOP "$shim"
        touch "/proc/$pid/root/go"
        until_true test ! -e /sys/fs/cgroup/system.slice/ctr-late.scope
        fails told
        kill -CONT "$shim"
        until_true told
        kill $listener
        same "/tasks/start /tasks/oom /tasks/exit" "$(grep '"late"' /tmp/events | grep -o '/tasks/[soe].*' | cut -d' ' -f1 | paste -sd' ')"
        ctr task delete late || same 137 $?
        ctr container delete late
    done
}
