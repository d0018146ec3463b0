# What containerd 1.7 has not, with containerd 2 behind rtc's own shim: checkpoints by the CRI, volumes with the ids of
# a pod.
# guest: systemd
# seconds: 33

suite=cri2-test
programs=/usr/lib/rtc-peers/containerd2
. /rtc/suites/cri-client.sh
# Options of a shim that isn't runc's and a user namespace don't go together there: containerd sets IoUid in them, which
# it can do with options of runc's only.
options_of_rtc=

setup() {
    set_up_cri
    contains "$(ctr --address $socket version)" " 2."
}

case_checkpoint_and_a_volume_with_the_pods_ids() {
    local ids="{ host_id: 200000 container_id: 0 length: 65536 }"
    local namespaces="network: POD pid: CONTAINER userns_options { mode: POD uids $ids gids $ids }"
    local pod id handler
    for handler in runc rtc; do
        mkdir -p /tmp/cri-volume
        pod=$(run_pod two-$handler $handler)
        id=$(create_container "$pod" two-$handler inner 'i=0; while :; do i=$((i + 1)); echo $i > /count; sleep 0.3; done' \
            "mounts { container_path: \"/volume\" host_path: \"/tmp/cri-volume\" uidMappings $ids gidMappings $ids }")
        container StartContainer "$id"
        contains "$(exec_sync "$id" 'cat /proc/self/uid_map | xargs; touch /volume/new; stat -c %u /volume /volume/new')" \
            'stdout: "0 200000 65536\n0\n0\n"'
        # What root of the pod makes in it is root's on the host.
        same 0 "$(stat -c %u /tmp/cri-volume/new)"
        cri RuntimeService/CheckpointContainer CheckpointContainerRequest Empty \
            "container_id: \"$id\" location: \"$top/$handler.tar\" timeout: 100"
        # It runs on, and the archive is what CRI-O and containerd restore from.
        contains "$(container_status "$id")" "state: CONTAINER_RUNNING"
        local before
        before=$(exec_sync "$id" 'cat /count')
        until_true counted "$id" "$before"
        local list
        list=$(tar -tf "$top/$handler.tar")
        local file files="config.dump spec.dump checkpoint/inventory.img rootfs-diff.tar"
        # Containerd asks no other shim for these two.
        [ $handler = rtc ] || files="$files stats-dump dump.log"
        for file in $files; do
            contains "$list" "$file"
        done
        container StopContainer "$id" 0
        pod StopPodSandbox "$pod"
        pod RemovePodSandbox "$pod"
        until_true no_shim "containerd-shim-$handler-v2"
        rm -r /tmp/cri-volume "$top/$handler.tar"
    done
}

# counted CONTAINER-ID SEEN
counted() {
    [ "$(exec_sync "$1" 'cat /count')" != "$2" ]
}
