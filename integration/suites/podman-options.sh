# Podman's options, each asserted from inside the container; several to a container, because a start takes seconds here.
# seconds: 88
. /rtc/suites/podman-common.sh

# Standard input of the shells below begins with this.
refused='refused() { if "$@" 2> /dev/null; then exit 99; fi; }'

case_namespaces_of_the_host() {
    local kind
    for kind in net ipc uts cgroup pid; do
        eval "export host_$kind=$(readlink /proc/self/ns/$kind)"
    done
    podman run --rm --network host --pid host --ipc host --uts host --cgroupns host --env host_* $image sh -euc '
        for kind in net ipc uts cgroup pid; do
            eval "expected=\$host_$kind"
            [ "$(readlink /proc/self/ns/$kind)" = "$expected" ]
        done
        [ "$$" != 1 ]'
    podman run --rm --ipc none --cgroupns private --env host_* --pids-limit -1 --ulimit host $image sh -euc '
        for kind in net ipc uts cgroup pid; do
            eval "other=\$host_$kind"
            [ "$(readlink /proc/self/ns/$kind)" != "$other" ]
        done
        grep -q "^0::/$" /proc/self/cgroup
        [ "$(cat /sys/fs/cgroup/pids.max)" = max ]
        ! grep -q " /dev/shm " /proc/mounts'
}

case_user_namespaces_of_three_kinds() {
    echo containers:1000000:131072 | tee -a /etc/subuid >> /etc/subgid
    podman run -d --name first --userns auto:size=2000 $image sleep 1000
    podman run --rm --userns auto $image sh -euc 'touch /data/x; stat -c %u:%g /data/x; cat /proc/self/uid_map' > /tmp/auto
    same "0:0" "$(head -n 1 /tmp/auto)"
    same "0 1000000 2000" "$(podman exec first cat /proc/1/uid_map | xargs)"
    same "0 1002000 1024" "$(tail -n 1 /tmp/auto | xargs)"
    # Into the same user namespace.
    same "$(podman exec first readlink /proc/1/ns/user)" \
        "$(podman run --rm --userns container:first $image readlink /proc/self/ns/user)"
    podman rm -f -t 0 first
    same "0 0 4294967295" "$(podman run --rm --userns keep-id $image cat /proc/self/uid_map | xargs)"
    fails podman run --rm --userns nomap $image true
    sed -i /^containers:/d /etc/subuid /etc/subgid
}

case_a_pseudoterminal_from_end_to_end() {
    # What the user types, the window, a key that signals, and the exit status, all through two terminals.
    mkfifo /tmp/keys
    exec 8<> /tmp/keys
    script -qefc "stty rows 31 cols 97; podman run --rm -it $image sh -c '
        trap \"echo caught; exit 42\" INT; stty size; read -r line; echo \"<\$line>\"; while :; do sleep 0.1; done'" \
        /dev/null < /tmp/keys > /tmp/typed &
    until_true grep -q '31 97' /tmp/typed
    echo hello >&8
    until_true grep -q '<hello>' /tmp/typed
    printf '\003' >&8
    local status=0
    wait $! || status=$?
    same 42 $status
    contains "$(cat /tmp/typed)" caught
    podman run -d --name term $image sleep 1000
    script -qefc "podman exec -it term sh" /dev/null < /tmp/keys > /tmp/typed &
    until_true grep -q '#' /tmp/typed
    echo 'echo $((6 * 7)); test -t 0 && exit 43' >&8
    status=0
    wait $! || status=$?
    same 43 $status
    contains "$(cat /tmp/typed)" 42
    podman rm -f -t 0 term
    exec 8>&-
    rm /tmp/keys /tmp/typed
}

case_exec_has_options() {
    podman run -d --name target --cap-drop all $image sleep 1000
    podman exec --detach target sh -c 'echo detached > /data/file'
    echo three > /tmp/three
    same "three" "$(podman exec --preserve-fds 2 target sh -c 'cat <&3; echo four >&4' 3< /tmp/three 4> /tmp/four)"
    same four "$(cat /tmp/four)"
    same "0 1 2 3" "$(podman exec target ls /proc/self/fd | xargs)"
    printf 'A=1\nB=2\n' > /tmp/environment
    same "7:8 1 2 /data" "$(podman exec --user 7:8 --env-file /tmp/environment --workdir /data target \
        sh -c 'echo $(id -u):$(id -g) $A $B $(pwd)')"
    podman exec --privileged target grep -q '^CapEff:.*1ffffffffff$' /proc/self/status
    podman exec target grep -q '^CapEff:.*0000000000000000$' /proc/self/status
    until_true podman exec target grep -q detached /data/file
    podman rm -f -t 0 target
    same "three" "$(podman run --rm --preserve-fds 1 $image sh -c 'cat <&3' 3< /tmp/three)"
    rm /tmp/three /tmp/four /tmp/environment
}

case_mounts_of_every_type() {
    mkdir -p /tmp/globbed /tmp/bound
    touch /tmp/globbed/one.conf /tmp/globbed/two.conf /tmp/globbed/three
    echo lower > /tmp/bound/file
    mkdir -p /tmp/bound/sub
    echo sub > /tmp/bound/sub/file
    podman volume create named
    printf 'a secret' | podman secret create word -
    podman run --rm --read-only --secret word --secret word,type=env,target=WORD --secret word,target=/other,mode=0400,uid=7 \
        --mount type=tmpfs,dst=/scratch,tmpfs-size=1m,tmpfs-mode=0701 --mount type=ramfs,dst=/ram \
        --mount "type=glob,src=/tmp/globbed/*.conf,dst=/globbed/,ro" --mount type=image,src=$image,dst=/image \
        --mount type=volume,src=named,dst=/named --mount type=devpts,dst=/pts --volume /tmp/bound:/upper:O \
        --mount type=bind,src=/tmp/bound,dst=/bound,ro,bind-propagation=rslave \
        --mount type=bind,src=/tmp/bound/sub/file,dst=/bound/file --volume /tmp/bound:/execs:rw,noexec,nosuid,nodev \
        --device /dev/null:/dev/nothing:rw --device-cgroup-rule 'c 10:200 rwm' --cap-add mknod --tmpfs /plain:rw,size=2m,mode=1770 \
        $image sh -euxc "$refused"'
            [ "$(cat /run/secrets/word)" = "a secret" ]
            [ "$WORD" = "a secret" ]
            [ "$(stat -c %a:%u /other)" = 400:7 ]
            [ "$(stat -c %a /scratch)" = 701 ]
            grep -q " /scratch tmpfs .*size=1024k" /proc/mounts
            grep -q " /ram ramfs " /proc/mounts
            [ "$(ls /globbed | paste -sd" ")" = "one.conf two.conf" ]
            cmp /bin/busybox /image/bin/busybox
            echo kept > /named/file
            [ -c /pts/ptmx ]
            echo upper > /upper/file
            [ "$(cat /bound/file)" = sub ]
            refused touch /bound/new
            touch /run/new /tmp/new
            refused touch /new
            grep " /execs " /proc/mounts | grep nosuid | grep nodev | grep -q noexec
            echo x > /dev/nothing
            mknod /tmp/tun c 10 200
            mknod /tmp/kmsg c 1 11
            refused head -c 1 /tmp/kmsg
            [ "$(stat -c %a /plain)" = 1770 ]'
    same lower "$(cat /tmp/bound/file)"
    same kept "$(podman run --rm --volume named:/again $image cat /again/file)"
    podman volume rm named
    podman secret rm word
    rm -r /tmp/globbed /tmp/bound
}

case_limits_of_other_kinds() {
    podman run --rm --pids-limit -1 --cgroup-conf memory.high=50331648 --memory-swap -1 --memory 64m --cpu-period 50000 \
        --cpu-quota 20000 --cpuset-mems 0 --oom-score-adj 321 --umask 0027 --timeout 100 --stop-signal 15 \
        --device-read-bps /dev/vda:1mb --cgroup-parent /placed --shm-size 1m --personality LINUX32 --unsetenv PATH \
        --sysctl net.ipv4.ping_group_range='0 7' --sysctl kernel.msgmax=4096 --hostuser root --no-hosts \
        --ulimit core=7 --network none $image /bin/sh -euxc '
            cd /sys/fs/cgroup
            [ "$(/bin/cat pids.max memory.high memory.swap.max cpu.max cpuset.mems | /bin/paste -sd" ")" = \
                "max 50331648 max 20000 50000 0" ]
            /bin/grep -q "^[0-9:]* rbps=1000000 \|^[0-9:]* rbps=1048576 " io.max
            [ "$(/bin/cat /proc/self/oom_score_adj)" = 321 ]
            [ "$(umask)" = 0027 ]
            [ "$(/bin/uname -m)" = i686 ]
            [ "$(/bin/cat /proc/sys/kernel/msgmax)" = 4096 ]
            [ "$(/bin/cat /proc/sys/net/ipv4/ping_group_range | /bin/xargs)" = "0 7" ]
            [ "$(ulimit -c)" != unlimited ]'
    # What conmon says of a container that it has killed.
    same 255 "$(podman run --timeout 1 --name short $image sleep 1000 || echo $?)"
    podman rm short
    podman --cgroup-manager cgroupfs run --rm --cgroups no-conmon $image grep -q '^0::/$' /proc/self/cgroup
    same "$(cat /proc/self/cgroup)" "$(podman run --rm --cgroups disabled --cgroupns host $image cat /proc/self/cgroup)"
}

case_hooks_and_filters_of_images() {
    rm -rf /tmp/hooks
    mkdir /tmp/hooks
    printf '#!/bin/sh\nread -r state; echo "$1 $(echo $state | jq -r .status)" >> /tmp/hooks/log\n' > /tmp/hooks/hook
    chmod 755 /tmp/hooks/hook
    local stage
    for stage in createRuntime createContainer poststart poststop; do
        echo '{"version": "1.0.0", "when": {"always": true}, "stages": ["'$stage'"],
            "hook": {"path": "/tmp/hooks/hook", "args": ["hook", "'$stage'"]}}' > /tmp/hooks/$stage.json
    done
    echo '{"version": "1.0.0", "when": {"annotations": {"^start$": "^hook$"}}, "stages": ["startContainer"],
        "hook": {"path": "/bin/sh", "args": ["sh", "-c", "cat > /data/state"]}}' > /tmp/hooks/start.json
    same created "$(podman --hooks-dir /tmp/hooks run --rm --annotation start=hook $image \
        sh -c 'cat /data/state' | jq -r .status)"
    same "createRuntime created createContainer created poststart running poststop stopped" \
        "$(paste -sd' ' /tmp/hooks/log | sed 's/creating/created/g')"
    cat > /tmp/hooks/Containerfile << 'END'
FROM localhost/rtc-test
LABEL io.containers.seccomp.profile='{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}'
END
    podman build -q -t localhost/filtered /tmp/hooks
    podman run --rm --seccomp-policy image localhost/filtered sh -c '! mkdir /data/x 2> /data/err && grep "No space" /data/err'
    podman run --rm localhost/filtered mkdir /data/x
    podman rmi localhost/filtered
    rm -r /tmp/hooks
}

case_systemd_mode_and_log_drivers() {
    podman run --rm --systemd always $image sh -euxc '
        [ "$container" = podman ]
        grep -q " /run tmpfs " /proc/mounts
        grep -q " /tmp tmpfs " /proc/mounts
        mkdir /sys/fs/cgroup/leaf
        echo $$ > /sys/fs/cgroup/leaf/cgroup.procs
        grep -q "^0::/leaf$" /proc/self/cgroup
        echo +pids > /sys/fs/cgroup/cgroup.subtree_control
        [ -e /sys/fs/cgroup/leaf/pids.max ]'
    same "$(readlink /proc/self/fd/0)" "$(podman run --rm --log-driver passthrough $image readlink /proc/self/fd/0)"
    podman run --name silent --log-driver none $image echo nothing
    fails podman logs silent
    podman rm silent
}

case_a_pod_lives_and_dies() {
    podman pod create --name pod --network none --share net,ipc,uts \
        --hostname shared --shm-size 2m --security-opt seccomp=unconfined
    podman run -d --pod pod --name front $image sh -c 'trap "exit 3" TERM; '"$idle"
    podman run -d --pod pod --name back $image sh -c 'trap "exit 4" TERM; sleep 1000 & wait'
    local infra
    infra=$(field "$(podman pod inspect --format '{{.InfraContainerID}}' pod)" .State.Pid)
    same "$(readlink /proc/$infra/ns/{net,ipc,uts})" \
        "$(podman exec front sh -c 'for kind in net ipc uts; do readlink /proc/self/ns/$kind; done')"
    same shared "$(podman exec back hostname)"
    podman exec front sh -c 'echo both > /dev/shm/file'
    same both "$(podman exec back cat /dev/shm/file)"
    contains "$(podman pod top pod args)" "sleep 1000"
    podman pod pause pod
    same "frozen 1" "$(grep frozen "$(cgroup back)/cgroup.events")"
    podman pod unpause pod
    podman pod stop -t 20 pod
    same "3 4" "$(podman inspect --format '{{.State.ExitCode}}' front back | paste -sd' ')"
    podman pod start pod
    same "running running" "$(podman inspect --format '{{.State.Status}}' front back | paste -sd' ')"
    same "$(podman exec front readlink /proc/self/ns/net)" "$(podman exec back readlink /proc/self/ns/net)"
    podman pod kill pod
    podman wait front back
    same 137 "$(field back .State.ExitCode)"
    podman pod rm -f -t 0 pod
}

case_kubernetes_yaml_is_played() {
    cat > /tmp/pod.yaml << END
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, file: from the map}
---
apiVersion: v1
kind: Pod
metadata: {name: kube}
spec:
  hostname: yaml
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: map, configMap: {name: settings}}
  initContainers:
  - name: before
    image: $image
    command: [sh, -c, "echo prepared > /scratch/file"]
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  containers:
  - name: main
    image: $image
    command: [sh, -c, "sleep 1000"]
    env: [{name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    securityContext:
      runAsUser: 7
      runAsGroup: 8
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [all], add: [NET_BIND_SERVICE]}
    volumeMounts:
    - {name: scratch, mountPath: /scratch}
    - {name: map, mountPath: /map, readOnly: true}
END
    podman kube play --network none /tmp/pod.yaml
    podman exec kube-main sh -euxc '
        [ "$(cat /scratch/file):$COLOUR:$(cat /map/file)" = "prepared:blue:from the map" ]
        [ "$(id -u):$(id -g):$(hostname)" = 7:8:yaml ]
        [ "$(cat /sys/fs/cgroup/memory.max):$(cat /sys/fs/cgroup/cpu.max)" = "67108864:50000 100000" ]
        ! touch /data/x 2> /dev/null
        grep -q "^NoNewPrivs:.1" /proc/self/status
        grep -q "^CapBnd:.*0000000000000400$" /proc/self/status'
    podman kube down --force /tmp/pod.yaml
    same "" "$(podman ps -aq)"
    rm /tmp/pod.yaml
}
