# Kubernetes' way: containerd's CRI plugin with rtc, behind its own shim (handler rtc) and behind runc's (handler runc).
# seconds: 55

suite=cri-test
programs=/usr/bin
. /rtc/suites/cri-client.sh

setup() {
    set_up_cri
}

case_a_pod_behind_our_shim() {
    a_pod rtc containerd-shim-rtc-v2
}

case_a_pod_behind_runcs_shim() {
    a_pod runc $other_shim
}

case_a_graceful_stop_lets_the_container_end() {
    local pod id
    pod=$(run_pod graceful rtc)
    id=$(create_container "$pod" graceful ends 'trap \"exit 5\" TERM; '"$idle")
    container StartContainer "$id"
    until_true exec_sync "$id" true
    container StopContainer "$id" 30
    contains "$(container_status "$id")" "exit_code: 5"
    end_pod "$pod"
}

case_memory_that_runs_out_is_told() {
    a_container_out_of_memory
}

case_containers_of_a_pod_share_what_they_should() {
    local namespaces="network: NODE pid: POD ipc: POD"
    local pod one two
    pod=$(run_pod shared rtc)
    one=$(create_container "$pod" shared one 'ipcmk -S 1 || true; exec sleep 1001')
    container StartContainer "$one"
    mkdir -p /tmp/cri-volume
    local security='capabilities { drop_capabilities: "ALL" add_capabilities: "CHOWN" } readonly_rootfs: true
        no_new_privs: true run_as_user { value: 65534 } seccomp { profile_type: RuntimeDefault }
        apparmor { profile_type: RuntimeDefault } masked_paths: "/proc/timer_list" readonly_paths: "/proc/sys"'
    two=$(create_container "$pod" shared two 'exec sleep 1002' \
        'mounts { container_path: "/volume" host_path: "/tmp/cri-volume" readonly: true }')
    container StartContainer "$two"
    until_true has_process "$two" "sleep 1001"
    local out
    out=$(exec_sync "$two" 'set -eux
        refused() { if \"$@\"; then exit 99; fi; }
        [ \"$(cat /proc/1/comm)\" = sleep ]
        [ \"$(id -u)\" = 65534 ]
        grep -q \"^Seccomp:.2$\" /proc/self/status
        grep -q \"^NoNewPrivs:.1$\" /proc/self/status
        grep -q \"^CapBnd:.0000000000000001$\" /proc/self/status
        [ \"$(cat /proc/self/attr/current)\" = \"cri-containerd.apparmor.d (enforce)\" ]
        refused touch /new
        refused touch /volume/new
        [ ! -s /proc/timer_list ]
        exit 23')
    contains "$out" "exit_code: 23"
    local ns
    for ns in pid ipc uts; do
        same "$(readlink "/proc/$(container_pid rtc "$one")/ns/$ns")" "$(readlink "/proc/$(container_pid rtc "$two")/ns/$ns")"
    done
    end_pod "$pod"
    until_true no_shim containerd-shim-rtc-v2
    rmdir /tmp/cri-volume
}

# has_process CONTAINER-ID ARGUMENTS
has_process() {
    exec_sync "$1" 'ps -o args' | grep -q "$2"
}

# A pod with ids and a network of its own, and its streams.
case_a_pod_with_a_user_namespace() {
    local ids="{ host_id: 200000 container_id: 0 length: 65536 }"
    local namespaces="network: POD pid: CONTAINER userns_options { mode: POD uids $ids gids $ids }"
    local more='hostname: "inside"'
    local pod id url
    pod=$(run_pod mapped rtc)
    id=$(create_container "$pod" mapped inner 'echo up; while read -r line; do echo \"heard $line\"; done; exec sleep 1000' "stdin: true")
    container StartContainer "$id"
    local out
    out=$(exec_sync "$id" 'set -eux; cat /proc/self/uid_map | xargs; id -u; stat -c %u /bin/sh /proc/1
        ip -4 -o address show dev eth0; hostname; exit 23')
    contains "$out" "exit_code: 23"
    contains "$out" 'stdout: "0 200000 65536\n0\n0\n0\n'
    contains "$out" "inet 10.88.7."
    contains "$out" 'inside\n"'
    same 200000 "$(stat -c %u "/proc/$(container_pid rtc "$id")")"

    url=$(cri RuntimeService/Exec ExecRequest StreamResponse \
        "container_id: \"$id\" cmd: \"sh\" cmd: \"-c\" cmd: \"read -r line; test -t 0 && echo tty \$line\" tty: true stdin: true stdout: true" | quoted url)
    contains "$(echo typed | perl /rtc/suites/websocket.pl "$url" "tty typed")" "tty typed"
    url=$(cri RuntimeService/Attach AttachRequest StreamResponse "container_id: \"$id\" stdin: true stdout: true" | quoted url)
    contains "$(echo words | perl /rtc/suites/websocket.pl "$url" "heard words")" "heard words"
    exec_sync "$id" 'mkdir /srv; echo through the port > /srv/index.html; httpd -p 8088 -h /srv'
    url=$(cri RuntimeService/PortForward PortForwardRequest StreamResponse "pod_sandbox_id: \"$pod\" port: 8088" | quoted url)
    contains "$(printf 'GET /index.html HTTP/1.0\r\n\r\n' | perl /rtc/suites/websocket.pl "$url?port=8088" "through the port")" "200 OK"
    end_pod "$pod"
}

case_containerd_may_be_restarted() {
    local pod handler ids=
    for handler in rtc runc; do
        pod=$(run_pod "stays-$handler" $handler)
        ids="$ids $pod $(create_container "$pod" "stays-$handler" stays "$idle")"
        ids="$ids $(create_container "$pod" "stays-$handler" ends 'trap \"exit 6\" TERM; '"$idle")"
    done
    set -- $ids
    local id
    for id in $2 $3 $5 $6; do
        container StartContainer "$id"
    done
    local pids
    pids="$(container_pid rtc "$2") $(container_pid runc "$5")"
    until_true heeds "$(container_pid rtc "$3")"
    until_true heeds "$(container_pid runc "$6")"
    stop_containerd
    rtc --root $top/rtc/$space kill "$3" TERM
    rtc --root $top/runc/$space kill "$6" TERM
    start_containerd
    until_true known $image
    same "$pids" "$(container_pid rtc "$2") $(container_pid runc "$5")"
    for id in $2 $5; do
        contains "$(exec_sync "$id" 'echo alive')" "alive"
    done
    # Containerd 1.7 asks for the pids of what it finds and takes none for a dead shim: 255, behind runc's shim too.
    for id in $3 $6; do
        until_true has_state "$id" CONTAINER_EXITED
        contains "$(container_status "$id")" "exit_code: 255"
    done
    end_pod "$1"
    end_pod "$4"
    until_true no_shim containerd-shim-rtc-v2
    until_true no_shim $other_shim
}
