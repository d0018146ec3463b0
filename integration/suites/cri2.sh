# What containerd 1.7 has not, with containerd 2: checkpoints by the CRI, containers made from them in other pods,
# volumes with the ids of a pod. And systemd as the driver of cgroups, as it is on most nodes.
# guest: systemd
# seconds: 99

suite=cri2-test
programs=/usr/lib/rtc-peers/containerd2
. /rtc/suites/cri-client.sh
# Options of a shim that isn't runc's and a user namespace don't go together there: containerd sets IoUid in them, which
# it can do with options of runc's only. So rtc's own shim goes by the paths of cgroups, and the handler `own` has options.
options_of_rtc=
systemd_cgroup=true
more_settings='  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.own]
    runtime_type = "io.containerd.rtc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.own.options]
      BinaryName = "/usr/local/bin/rtc"
      Root = "'$top/own'"
      SystemdCgroup = true'

# An image that is in a registry: containerd asks there for it when it restores, though it has it.
port=5077
repository=localhost:$port/rtc-test

cgroup_parent() {
    echo "/kubepods.slice/kubepods-$1.slice"
}

setup() {
    set_up_cri
    contains "$(ctr --address $socket version)" " 2."
    local work digest
    work=$top/image
    mkdir $work
    tar -C $work -xf /usr/lib/rtc-images/test.tar
    digest=$(jq -r '.manifests[0].digest' $work/index.json)
    ip link set lo up
    setsid perl /rtc/suites/registry.pl $port "$work/blobs/sha256/${digest#sha256:}" "$digest" > $top/registry.log 2>&1 < /dev/null &
    ctr --address $socket --namespace $space image tag $image "$repository@$digest"
    ctr --address $socket --namespace $space image tag $image $repository:latest
    until_true known $repository:latest
}

# unit ID PROPERTY: of the container's scope.
unit() {
    systemctl show -P "$2" "cri-containerd-$1.scope"
}

# has_limits POD-NAME ID BYTES CPU.MAX: as systemd, the kernel and the container know them.
has_limits() {
    same "$3" "$(unit "$2" MemoryMax)"
    same "$4" "$(cat "/sys/fs/cgroup$(cgroup_parent "$1")/cri-containerd-$2.scope/cpu.max")"
    contains "$(exec_sync "$2" 'cat /proc/self/cgroup /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max')" \
        "\"0::/\\n$3\\n$4\\n\""
}

# What the container runs: it counts, and says a word when it is asked to.
talker='read -r token < /proc/sys/kernel/random/uuid; i=0; while :; do i=$((i + 1)); echo $token $i > /count.new; mv /count.new /count; rm /ask 2> /dev/null && echo $token; sleep 0.3; done'

# lives_below_systemd HANDLER [MORE-OF-CONFIG]: a pod and a container, for the caller as pod and id.
lives_below_systemd() {
    local image=$repository:latest
    pod=$(run_pod "first$1" "$1")
    id=$(create_container "$pod" "first$1" inner "$talker" "${2:-}")
    container StartContainer "$id"
    same "kubepods-first$1.slice yes" "$(unit "$id" Slice) $(unit "$id" Delegate)"
    cri RuntimeService/UpdateContainerResources UpdateContainerResourcesRequest Empty \
        "container_id: \"$id\" linux { memory_limit_in_bytes: 134217728 cpu_period: 100000 cpu_quota: 20000 }"
    has_limits "first$1" "$id" 134217728 "20000 100000"
}

# is_gone HANDLER SHIM: the container and its pod end, and leave nothing.
is_gone() {
    container StopContainer "$id" 0
    contains "$(container_status "$id")" "exit_code: 137"
    until_true has_no_unit "$id"
    end_pod "$pod"
    until_true no_shim "$2"
    same "" "$(rtc --root "$(states "$1")/$space" list -q)"
}

# lives_twice HANDLER SHIM [MORE-OF-CONFIG] [CHECK]: a checkpoint in the midst of a life, and a container made from the
# archive in another pod.
lives_twice() {
    local pod id before archive=$top/$1.tar
    lives_below_systemd "$1" "${3:-}"
    contains "$(exec_sync "$id" "echo changed > /data/file; rm /bin/httpd; ${4:-true} && echo well")" well
    cri RuntimeService/CheckpointContainer CheckpointContainerRequest Empty \
        "container_id: \"$id\" location: \"$archive\" timeout: 100"
    # It runs on.
    before=$(exec_sync "$id" 'cat /count')
    until_true counted "$id" "$before"
    is_whole "$1" "$archive"
    is_gone "$1" "$2"

    pod=$(run_pod "second$1" "$1")
    id=$(image=$archive create_container "$pod" "second$1" inner "is not looked at" "${3:-}")
    container StartContainer "$id"
    # The same process with its files, below the new pod and with the limits that this one asks for.
    contains "$(exec_sync "$id" 'cat /count /data/file; test -e /bin/httpd || echo no httpd; touch /ask')" \
        '\nchanged\nno httpd\n'
    has_limits "second$1" "$id" 67108864 "50000 100000"
    before=${before#*\"}
    until_true grep -q "stdout F ${before% *}" "/var/log/pods/second$1/inner.log"
    is_gone "$1" "$2"
    rm "$archive"
}

has_no_unit() {
    [ "$(unit "$1" LoadState)" = not-found ]
}

# states HANDLER: where rtc keeps its containers.
states() {
    case $1 in
    rtc) echo /run/containerd/rtc ;;
    *) echo "$top/$1" ;;
    esac
}

# counted CONTAINER-ID SEEN
counted() {
    [ "$(exec_sync "$1" 'cat /count')" != "$2" ]
}

# is_whole HANDLER ARCHIVE: it has the files that checkpointctl looks at, with what they are to say.
is_whole() {
    local list file files="config.dump spec.dump status.dump status checkpoint/inventory.img checkpoint/descriptors.json
        rootfs-diff.tar"
    list=$(tar -tf "$2")
    # Containerd asks no other shim for these two.
    [ "$1" != runc ] || files="$files stats-dump dump.log"
    for file in $files; do
        contains "$list" "$file"
    done
    same "[]" "$(tar -xOf "$2" checkpoint/descriptors.json | jq -c 'map(select(type != "string"))')"
    same inner "$(tar -xOf "$2" spec.dump | jq -r '.annotations["io.kubernetes.cri.container-name"]')"
}

case_checkpoint_and_restore_behind_runcs_shim() {
    local namespaces="network: POD pid: CONTAINER"
    lives_twice runc containerd-shim-runc-v2
}

# With a volume that has the ids of the pod.
case_checkpoint_and_restore_with_a_user_namespace() {
    local ids="{ host_id: 200000 container_id: 0 length: 65536 }"
    local namespaces="network: POD pid: CONTAINER userns_options { mode: POD uids $ids gids $ids }"
    mkdir -p /tmp/cri-volume
    lives_twice rtc containerd-shim-rtc-v2 \
        "mounts { container_path: \"/volume\" host_path: \"/tmp/cri-volume\" uidMappings $ids gidMappings $ids }" \
        'touch /volume/new; [ \"$(xargs < /proc/self/uid_map) $(stat -c %u /volume /volume/new | xargs)\" = \"0 200000 65536 0 0\" ]'
    # What root of the pod makes in it is root's on the host.
    same 0 "$(stat -c %u /tmp/cri-volume/new)"
    rm -r /tmp/cri-volume
}

case_options_of_our_shim() {
    local namespaces="network: POD pid: CONTAINER" pod id
    lives_below_systemd own
    same running "$(rtc --root "$top/own/$space" state "$id" | jq -r .status)"
    is_gone own containerd-shim-rtc-v2
}
