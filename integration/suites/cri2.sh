# What containerd 1.7 has not, with containerd 2: checkpoints by the CRI, containers made from them in other pods,
# volumes with the ids of a pod, read-only with all below, or of an image. And systemd as the driver of cgroups, as it is
# on most nodes.
# guest: systemd
# seconds: 78

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
# archive in another pod. $meanwhile is done during its life; with $as_image the archive becomes an image of that name.
lives_twice() {
    local pod id before archive=$top/$1.tar
    lives_below_systemd "$1" "${3:-}"
    ${meanwhile:-true}
    contains "$(exec_sync "$id" "echo changed > /data/file; rm /bin/httpd; ${4:-true} && echo well")" well
    cri RuntimeService/CheckpointContainer CheckpointContainerRequest Empty \
        "container_id: \"$id\" location: \"$archive\" timeout: 100"
    # It runs on.
    before=$(exec_sync "$id" 'cat /count')
    until_true counted "$id" "$before"
    is_whole "$1" "$archive"
    is_gone "$1" "$2"
    [ -z "${as_image:-}" ] || image_of_checkpoint "$archive" $as_image

    pod=$(run_pod "second$1" "$1")
    id=$(image=${as_image:-$archive} create_container "$pod" "second$1" inner "is not looked at" "${3:-}")
    container StartContainer "$id"
    # The same process with its files, below the new pod and with the limits that this one asks for.
    contains "$(exec_sync "$id" "cat /count /data/file; test -e /bin/httpd || echo no httpd; touch /ask; ${4:-true} && echo well")" \
        '\nchanged\nno httpd\nwell\n'
    has_limits "second$1" "$id" 67108864 "50000 100000"
    before=${before#*\"}
    until_true grep -q "stdout F ${before% *}" "/var/log/pods/second$1/inner.log"
    is_gone "$1" "$2"
    rm -f "$archive"
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
    lives_twice runc $other_shim
}

# With a volume that has the ids of the pod, another in which the host mounts something later, and the checkpoint as an
# image, as Kubernetes keeps one in a registry.
case_checkpoint_and_restore_with_a_user_namespace() {
    local ids="{ host_id: 200000 container_id: 0 length: 65536 }" later=/tmp/cri-later
    local namespaces="network: POD pid: CONTAINER userns_options { mode: POD uids $ids gids $ids }"
    local meanwhile="mount -t tmpfs later $later/sub" as_image=localhost/checkpoint:latest
    mkdir -p /tmp/cri-volume $later
    mount -t tmpfs top $later
    mkdir $later/sub
    lives_twice rtc containerd-shim-rtc-v2 \
        "mounts { container_path: \"/volume\" host_path: \"/tmp/cri-volume\" uidMappings $ids gidMappings $ids }
        mounts { container_path: \"/later\" host_path: \"$later\" propagation: PROPAGATION_HOST_TO_CONTAINER }" \
        'touch /volume/new; [ \"$(xargs < /proc/self/uid_map) $(stat -c %u /volume /volume/new | xargs)\" = \"0 200000 65536 0 0\" ] && grep -q \" /later/sub tmpfs \" /proc/mounts'
    # What root of the pod makes in it is root's on the host.
    same 0 "$(stat -c %u /tmp/cri-volume/new)"
    umount -R $later
    rm -r /tmp/cri-volume $later
    ctr --address $socket --namespace $space image rm $as_image
}

case_memory_that_runs_out_is_told() {
    a_container_out_of_memory
}

case_options_of_our_shim() {
    local namespaces="network: POD pid: CONTAINER" pod id
    lives_below_systemd own
    same running "$(rtc --root "$top/own/$space" state "$id" | jq -r .status)"
    is_gone own containerd-shim-rtc-v2
}

# What a container mounts shows on the host and in the containers that ask for it, and what the host mounts in both;
# volumes that are read-only with or without what is below; an image as a volume.
case_mounts_go_where_they_are_asked_to() {
    local namespaces="network: NODE pid: CONTAINER" shared=/tmp/cri-shared
    local security='capabilities { add_capabilities: "SYS_ADMIN" } apparmor { profile_type: Unconfined }'
    local pod gives takes apart out
    # Containerd 2.1 asks no other shim than runc's for features, and refuses rtc's own `recursive_read_only`.
    contains "$(cri RuntimeService/Status Empty StatusResponse | tr -d ' \n')" \
        'name:"runc"features{recursive_read_only_mounts:trueuser_namespaces:true}'
    mkdir $shared
    mount -t tmpfs top $shared
    mkdir $shared/given $shared/hosts $shared/taken $shared/sub
    mount -t tmpfs sub $shared/sub
    pod=$(run_pod mounts runc)
    gives=$(create_container "$pod" mounts gives "$idle" "$(volume /volume BIDIRECTIONAL)")
    takes=$(create_container "$pod" mounts takes "$idle" "$(volume /volume HOST_TO_CONTAINER)")
    apart=$(create_container "$pod" mounts apart "$idle" "$(volume /volume PRIVATE)
        $(volume /flat PRIVATE 'readonly: true') $(volume /deep PRIVATE 'readonly: true recursive_read_only: true')
        mounts { container_path: \"/image\" image { image: \"$repository:latest\" } readonly: true }")
    container StartContainer "$gives"
    container StartContainer "$takes"
    container StartContainer "$apart"
    contains "$(exec_sync "$gives" 'mount -t tmpfs given /volume/given && echo of the container > /volume/given/file && echo well')" well
    same "of the container" "$(cat $shared/given/file)"
    mount -t tmpfs hosts $shared/hosts
    echo of the host > $shared/hosts/file
    contains "$(exec_sync "$gives" 'cat /volume/hosts/file')" "of the host"
    contains "$(exec_sync "$takes" 'cat /volume/*/file; mount -t tmpfs taken /volume/taken && touch /volume/taken/mine')" \
        'stdout: "of the container\nof the host\n"'
    same "" "$(ls $shared/taken)"
    out=$(exec_sync "$apart" 'set -eux
        refused() { if \"$@\"; then exit 99; fi; }
        [ -z \"$(ls /volume/given /volume/hosts | grep file)\" ]
        for file in /flat/new /deep/new /deep/sub/new /image/new; do refused touch $file; done
        touch /flat/sub/new
        [ -e /deep/sub/new ]
        cmp /bin/busybox /image/bin/busybox
        exit 23')
    contains "$out" "exit_code: 23"
    umount $shared/hosts
    same "" "$(exec_sync "$takes" 'ls /volume/hosts; umount /volume/given; ls /volume/given')"
    exec_sync "$gives" 'umount /volume/given; mount -t tmpfs last /volume/taken; touch /volume/taken/stays'
    end_pod "$pod"
    # As with a driver of volumes that is restarted.
    same stays "$(ls $shared/taken)"
    same "" "$(ls $shared/given)"
    umount -R $shared
    rmdir $shared
    until_true no_shim $other_shim
}

# volume PATH PROPAGATION [MORE]: of the folder $shared.
volume() {
    echo "mounts { container_path: \"$1\" host_path: \"$shared\" propagation: PROPAGATION_$2 ${3:-} }"
}

# image_of_checkpoint ARCHIVE NAME: containerd has the archive as an image of one layer, which an annotation tells from
# others.
image_of_checkpoint() {
    local work=$top/checkpoint blobs=$top/checkpoint/blobs/sha256 layer config manifest
    mkdir -p $blobs
    mv "$1" $work/blob
    layer=$(blob)
    jq -n --arg layer "sha256:$layer" '{architecture: "amd64", os: "linux", config: {},
        rootfs: {type: "layers", diff_ids: [$layer]}}' > $work/blob
    config=$(blob)
    jq -n "{schemaVersion: 2, mediaType: \"application/vnd.oci.image.manifest.v1+json\",
        annotations: {\"org.criu.checkpoint.container.name\": \"inner\"},
        config: $(descriptor config.v1+json "$config"), layers: [$(descriptor layer.v1.tar "$layer")]}" > $work/blob
    manifest=$(blob)
    echo '{"imageLayoutVersion": "1.0.0"}' > $work/oci-layout
    jq -n "{schemaVersion: 2, manifests: [$(descriptor manifest.v1+json "$manifest") +
        {annotations: {\"io.containerd.image.name\": \"$2\"}}]}" > $work/index.json
    tar -C $work -cf $top/image.tar .
    ctr --address $socket --namespace $space image import $top/image.tar
    until_true known "$2"
    rm -r $work $top/image.tar
}

# blob: stores the file $work/blob, prints its digest.
blob() {
    local digest
    digest=$(sha256sum < $work/blob | cut -d' ' -f1)
    mv $work/blob "$blobs/$digest"
    echo "$digest"
}

# descriptor TYPE DIGEST
descriptor() {
    echo "{mediaType: \"application/vnd.oci.image.$1\", digest: \"sha256:$2\", size: $(stat -c %s "$blobs/$2")}"
}
