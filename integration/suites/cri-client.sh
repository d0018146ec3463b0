# What the suites that drive containerd's CRI plugin share. A suite says first which they are: `suite`, its name for
# folders, and `programs`, the folder of its containerd.
#
# The client is curl, which speaks gRPC's HTTP/2, with protoc for the messages (cri.proto).

image=localhost/rtc-test:latest
pause=localhost/rtc-pause:latest
top=/run/$suite
store=/var/lib/$suite
socket=$top/containerd.sock
# The namespace that the plugin keeps its containers in.
space=k8s.io

# set_up_cri: containerd with images.
set_up_cri() {
    install_rtc
    mkdir -p $top/cni $store /var/log/pods
    settings > $top/config.toml
    network > $top/cni/10-tests.conflist
    start_containerd
    ctr --address $socket --namespace $space image import /usr/lib/rtc-images/test.tar
    ctr --address $socket --namespace $space image import /usr/lib/rtc-images/pause.tar
    until_true known $image
    until_true known $pause
}

start_containerd() {
    PATH=${own_shim:+/usr/local/bin:}$programs:$PATH setsid containerd --config $top/config.toml >> $top/log 2>&1 < /dev/null &
    echo $! > $top/pid
    # ctr waits ten seconds where there is no socket.
    until_true test -S $socket
    until_true ctr --address $socket version
}

stop_containerd() {
    local pid
    pid=$(cat $top/pid)
    kill "$pid"
    until_true test ! -e "/proc/$pid"
}

settings() {
    cat << END
version = 2
root = "$store"
state = "$top/state"
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$top/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rtc]
    runtime_type = "io.containerd.rtc.v2"
$options_of_rtc
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "/usr/local/bin/rtc"
      Root = "$top/runc"
      SystemdCgroup = $systemd_cgroup
$more_settings
END
}

# network: a pair of interfaces per pod, for pods with a network of their own.
network() {
    echo '{"cniVersion": "1.0.0", "name": "tests", "plugins": [{"type": "ptp",
        "ipam": {"type": "host-local", "subnet": "10.88.7.0/24", "dataDir": "'$top/ipam'"}}]}'
}

# cri SERVICE/METHOD REQUEST-TYPE RESPONSE-TYPE [REQUEST]: the response as text, or its error and status 1.
# In a subshell, without the trace: there are many calls, one after the other.
cri() (
    { set +x; } 2> /dev/null
    local work=$top/call length
    [ -d "$work" ] || mkdir "$work"
    # Nothing of the call before, if this one fails.
    : > "$work/headers"
    : > "$work/response"
    protoc --proto_path=/rtc/suites --encode="runtime.v1.$2" cri.proto <<< "${4:-}" > "$work/message"
    length=$(printf '%08x' "$(stat -c %s "$work/message")")
    # gRPC puts five bytes in front of a message: not compressed, and its length.
    { printf "\\x00\\x${length:0:2}\\x${length:2:2}\\x${length:4:2}\\x${length:6:2}"; cat "$work/message"; } > "$work/request"
    curl --silent --show-error --http2-prior-knowledge --unix-socket $socket --request POST \
        --header 'content-type: application/grpc' --header 'te: trailers' --data-binary "@$work/request" \
        --dump-header "$work/headers" --output "$work/response" "http://cri/runtime.v1.$1"
    if ! grep -qi $'^grpc-status: 0\r*$' "$work/headers"; then
        grep -i '^grpc-' "$work/headers" >&2
        return 1
    fi
    [ "$3" = Empty ] || tail -c +6 "$work/response" | protoc --proto_path=/rtc/suites --decode="runtime.v1.$3" cri.proto
)

known() {
    cri ImageService/ImageStatus ImageRequest ImageStatusResponse "image { image: \"$1\" }" | grep -q sha256
}

# quoted FIELD: the value of a field in text that comes in.
quoted() {
    sed -n "s/^ *$1: \"\\(.*\\)\"\$/\\1/p"
}

options_of_rtc='    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rtc.options]
      BinaryName = "/usr/local/bin/rtc"
      Root = "'$top/rtc'"'

# Whether systemd makes the cgroups of the handler runc; what else is to stand in the settings.
systemd_cgroup=false
more_settings=

# cgroup_parent POD-NAME
cgroup_parent() {
    echo "/pods/$1"
}

# The namespaces of pods and containers; a case may have others.
namespaces="network: NODE pid: CONTAINER"
# More of what is asked for containers' security, and for pods.
security=
more=

# pod_config NAME
pod_config() {
    echo "metadata { name: \"$1\" uid: \"$1\" namespace: \"tests\" } log_directory: \"/var/log/pods/$1\"
        $more linux { cgroup_parent: \"$(cgroup_parent "$1")\" security_context { namespace_options { $namespaces } } }"
}

# run_pod NAME HANDLER
run_pod() {
    cri RuntimeService/RunPodSandbox RunPodSandboxRequest RunPodSandboxResponse \
        "config { $(pod_config "$1") } runtime_handler: \"$2\"" | quoted pod_sandbox_id
}

# create_container POD-ID POD-NAME NAME SCRIPT [MORE-OF-CONFIG]
create_container() {
    cri RuntimeService/CreateContainer CreateContainerRequest CreateContainerResponse "pod_sandbox_id: \"$1\"
        config { metadata { name: \"$3\" } image { image: \"$image\" } command: \"/bin/sh\" args: \"-c\" args: \"$4\"
            log_path: \"$3.log\" linux {
                resources { memory_limit_in_bytes: 67108864 cpu_period: 100000 cpu_quota: 50000 }
                security_context { namespace_options { $namespaces } $security } } ${5:-} }
        sandbox_config { $(pod_config "$2") }" | quoted container_id
}

# container METHOD ID [TIMEOUT]
container() {
    cri "RuntimeService/$1" ContainerRequest Empty "container_id: \"$2\" timeout: ${3:-0}"
}

pod() {
    cri "RuntimeService/$1" PodSandboxRequest Empty "pod_sandbox_id: \"$2\""
}

# end_pod POD-ID: with all that is in it.
end_pod() {
    pod StopPodSandbox "$1"
    pod RemovePodSandbox "$1"
}

container_status() {
    cri RuntimeService/ContainerStatus ContainerRequest ContainerStatusResponse "container_id: \"$1\""
}

has_state() {
    container_status "$1" | grep -q "$2"
}

# exec_sync ID SCRIPT
exec_sync() {
    cri RuntimeService/ExecSync ExecSyncRequest ExecSyncResponse \
        "container_id: \"$1\" cmd: \"sh\" cmd: \"-c\" cmd: \"${2//$'\n'/\\n}\" timeout: 60"
}

# container_pid HANDLER ID: of its first process, as rtc says.
container_pid() {
    rtc --root "$top/$1/$space" state "$2" | jq .pid
}

# shim_count NAME
shim_count() {
    ps -eo args= | grep -c "^[^ ]*/$1 .*$space" || true
}

# a_pod HANDLER SHIM: a pod with two containers lives and goes away.
a_pod() {
    local handler=$1 shim=$2
    local pod first second out
    pod=$(run_pod "pod-$handler" "$handler")
    [ -n "$pod" ]
    contains "$(cri RuntimeService/PodSandboxStatus PodSandboxRequest PodSandboxStatusResponse "pod_sandbox_id: \"$pod\"")" \
        "runtime_handler: \"$handler\""
    first=$(create_container "$pod" "pod-$handler" first "echo started; $idle")
    second=$(create_container "$pod" "pod-$handler" second 'exit 7')
    container StartContainer "$first"
    container StartContainer "$second"
    until_true has_state "$second" CONTAINER_EXITED
    contains "$(container_status "$second")" "exit_code: 7"
    contains "$(container_status "$first")" "state: CONTAINER_RUNNING"
    until_true grep -q 'stdout F started' "/var/log/pods/pod-$handler/first.log"
    # One shim serves the pod and its containers.
    same 1 "$(shim_count "$shim")"
    out=$(exec_sync "$first" 'echo out; echo err >&2; cat /proc/1/cgroup; exit 3')
    contains "$out" 'stdout: "out\n'
    contains "$out" 'stderr: "err\n"'
    contains "$out" "exit_code: 3"
    # In a cgroup namespace of its own.
    contains "$out" '0::/\n'
    contains "$(cat "/sys/fs/cgroup/pods/pod-$handler/$first/cgroup.procs")" "$(container_pid "$handler" "$first")"
    same 67108864 "$(cat "/sys/fs/cgroup/pods/pod-$handler/$first/memory.max")"
    cri RuntimeService/UpdateContainerResources UpdateContainerResourcesRequest Empty \
        "container_id: \"$first\" linux { memory_limit_in_bytes: 134217728 }"
    same 134217728 "$(cat "/sys/fs/cgroup/pods/pod-$handler/$first/memory.max")"
    contains "$(cri RuntimeService/ContainerStats ContainerRequest ContainerStatsResponse "container_id: \"$first\"")" memory
    container StopContainer "$first" 0
    contains "$(container_status "$first")" "exit_code: 137"
    container RemoveContainer "$first"
    container RemoveContainer "$second"
    end_pod "$pod"
    until_true no_shim "$shim"
    same "" "$(rtc --root "$top/$handler/$space" list -q)"
    same "" "$(grep "$top/state" /proc/mounts | grep -e "$pod" -e "$first" || true)"
}

# a_container_out_of_memory: its end tells why.
a_container_out_of_memory() {
    local pod id
    pod=$(run_pod hungry rtc)
    id=$(create_container "$pod" hungry eats 'x=0123456789; while :; do x=$x$x; done')
    container StartContainer "$id"
    until_true has_state "$id" CONTAINER_EXITED
    contains "$(container_status "$id")" 'reason: "OOMKilled"'
    end_pod "$pod"
}

no_shim() {
    [ "$(shim_count "$1")" = 0 ]
}

cleanup() {
    local name
    for name in $(ctr --address $socket --namespace $space task ls -q); do
        ctr --address $socket --namespace $space task delete --force "$name"
    done
}
