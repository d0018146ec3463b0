# CRI-O's way. Debian has no package of it, so these cases do with conmon and rtc what CRI-O does: the same arguments,
# pipes, files and order of calls, below systemd, with a pod's namespaces given by path.
# guest: systemd
# seconds: 12

. /rtc/suites/bundles.sh

top=/run/crio-test
root=$top/root

setup() {
    prepare_bundles
    mkdir -p $top/exits $top/attach $top/logs
}

cleanup() {
    local name
    for name in $(rtc --root $root list -q); do
        rtc --root $root delete --force "$name"
    done
    remove_bundles
    for name in $top/pods/*/*; do
        umount "$name"
    done
    rm -rf $top/pods
}

# pod NAME: the namespaces that its containers share, kept by mounts as CRI-O's helper keeps them.
pod() {
    local dir=$top/pods/$1
    mkdir -p "$dir"
    touch "$dir/net" "$dir/ipc" "$dir/uts"
    unshare --net="$dir/net" --ipc="$dir/ipc" --uts="$dir/uts" hostname "$1"
    nsenter --net="$dir/net" ip link set lo up
    mkdir "$dir/shm"
    mount -t tmpfs -o size=1m shm "$dir/shm"
}

remove_pod() {
    umount $top/pods/"$1"/*
    rm -r "$top/pods/${1:?}"
}

# in_pod NAME ID: what CRI-O puts into the configuration of a container of the pod, as a filter of jq.
in_pod() {
    echo '.linux.cgroupsPath = "kubepods-besteffort-'"$1"'.slice:crio:'"$2"'" |
        .linux.namespaces = [{"type": "pid"}, {"type": "mount"}, {"type": "cgroup"},
            {"type": "network", "path": "'"$top/pods/$1"'/net"}, {"type": "ipc", "path": "'"$top/pods/$1"'/ipc"},
            {"type": "uts", "path": "'"$top/pods/$1"'/uts"}] |
        del(.hostname) | .process.oomScoreAdj = 1000 |
        .linux.resources += {"memory": {"limit": 33554432, "swap": 33554432}, "cpu": {"shares": 2}} |
        .annotations += {"io.kubernetes.cri-o.ContainerType": "container",
            "org.systemd.property.CollectMode": "'"'inactive-or-failed'"'",
            "org.systemd.property.TimeoutStopUSec": "uint64 30000000"} |
        .mounts |= map(select(.destination != "/dev/shm")) + [
            {"destination": "/dev/shm", "type": "bind", "source": "'"$top/pods/$1"'/shm", "options": ["rw", "bind"]}]'
}

# runtime COMMAND...: as CRI-O calls it.
runtime() {
    rtc --root $root --systemd-cgroup "$@"
}

# monitor ID [ARGUMENT...]: conmon with CRI-O's arguments; prints the line that it answers with.
monitor() {
    local id=$1 dir=/run/bundles/$1
    shift
    rm -f "$dir/sync" "$dir/go" "$dir/ctl" "$dir/winsz"
    mkfifo "$dir/sync" "$dir/go"
    exec 5<> "$dir/sync" 6<> "$dir/go"
    (cd "$dir" && env -i _OCI_SYNCPIPE=3 _OCI_STARTPIPE=4 PATH="$PATH" \
        conmon -b "$dir" -c "$id" --exit-dir $top/exits -l "$top/logs/$id.log" --log-level info -n "k8s_$id" \
        -P "$dir/conmon-pidfile" -p "$dir/pidfile" --persist-dir "$dir" -r /usr/local/bin/rtc \
        --runtime-arg --root=$root --socket-dir-path $top/attach --syslog -u "$id" -s "$@" \
        3<&5 4<&6 5>&- 6>&- > /dev/null 2>&1) &
    # It has put conmon into a cgroup by then.
    printf '\0' >&6
    wait $!
    answer
}

answer() {
    local line
    read -r -t 60 line <&5
    exec 5>&- 6>&-
    echo "$line"
}

# exec_sync ID COMMAND [ARGUMENT...]: prints the exit status; the output is in $top/exec.log.
exec_sync() {
    local id=$1 dir=/run/bundles/$1
    jq --arg command "$2" '.process | .args = ["sh", "-c", $command] | .terminal = false' "$dir/config.json" > "$dir/process.json"
    shift 2
    rm -f "$dir/sync" "$dir/go" $top/exec.log
    mkfifo "$dir/sync" "$dir/go"
    exec 5<> "$dir/sync" 6<> "$dir/go"
    printf '\0' >&6
    env -i _OCI_SYNCPIPE=3 _OCI_STARTPIPE=4 \
        conmon -c "$id" -n "k8s_$id" -r /usr/local/bin/rtc -p "$dir/exec-pidfile" -e -l $top/exec.log \
        --socket-dir-path $top/attach --log-level info --sync --log-global-size-max 16777216 -s "$@" \
        --exec-process-spec "$dir/process.json" --runtime-arg --root=$root \
        3<&5 4<&6 5>&- 6>&- > /dev/null 2>&1 || true
    answer
}

# attach ID TEXT: sends standard input, prints what comes up to the text.
attach() {
    perl /rtc/suites/attach.pl "$top/attach/$1/attach" "$2"
}

state_of() {
    runtime state "$1" | jq -r .status
}

# ended ID: conmon has said how.
ended() {
    [ -e "$top/exits/$1" ] && [ "$(state_of "$1")" = stopped ]
}

# deleted ID: as CRI-O does it, which leaves nothing.
deleted() {
    runtime delete --force "$1"
    runtime delete --force "$1"
    until_true test ! -e "/proc/$(cat "/run/bundles/$1/conmon-pidfile")"
    same "" "$(runtime list -q)"
    same not-found "$(systemctl show -P LoadState "crio-$1.scope")"
    rm -f "$top/exits/$1"
    finish "$1"
}

case_a_container_lives_as_crio_says() {
    pod podlife
    bundle life 'trap "echo bye; exit 5" TERM; echo ready; echo complaint >&2
        while :; do if read -r -t 1 line; then echo "heard $line"; fi; done' "$(in_pod podlife life)"
    local pid
    pid=$(monitor life --log-size-max 1048576 --leave-stdin-open -i | jq .pid)
    same "created $pid" "$(runtime state life | jq -r '.status + " " + (.pid | tostring)')"
    same "$pid" "$(cat /run/bundles/life/pidfile)"
    runtime start life
    until_true grep -q 'stdout F ready' $top/logs/life.log
    until_true grep -q 'stderr F complaint' $top/logs/life.log
    contains "$(echo hello | attach life "heard hello")" "heard hello"

    # Where it is, from the outside and from the inside.
    contains "$(cat "/proc/$pid/cgroup")" /kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podlife.slice/crio-life.scope
    local answer
    answer=$(exec_sync life 'hostname; df -k /dev/shm | tail -n 1 | awk "{ print \$2 }"; readlink /proc/self/ns/net
        cat /sys/fs/cgroup/memory.max /proc/1/oom_score_adj; echo problem >&2; exit 7')
    same 7 "$(jq .exit_code <<< "$answer")"
    same "podlife 1024 $(nsenter --net=$top/pods/podlife/net readlink /proc/self/ns/net) 33554432 1000" \
        "$(sed -n 's/.* stdout F //p' $top/exec.log | paste -sd' ')"
    contains "$(cat $top/exec.log)" "stderr F problem"
    answer=$(exec_sync life 'exec sleep 1000' -T 1)
    same "-1 command timed out" "$(jq -r '(.exit_code | tostring) + " " + .message' <<< "$answer")"
    # A terminal for kubectl exec -t: CRI-O gives the runtime one of its own as standard input and output.
    jq '.process | .args = ["sh", "-c", "tty; echo it is $(stty size); exit 9"] | .terminal = true' \
        /run/bundles/life/config.json > /run/bundles/life/process.json
    local status=0
    answer=$(script -qec "stty rows 33 cols 99; rtc --root $root --systemd-cgroup exec --process /run/bundles/life/process.json life" \
        /dev/null < /dev/null) || status=$?
    same 9 "$status"
    contains "$answer" "it is 33 99"

    # Updates come without the option for systemd.
    echo '{"memory": {"limit": 50331648, "swap": 50331648}, "cpu": {"shares": 512, "quota": 20000, "period": 100000}}' |
        rtc --root $root update --resources - life
    same "50331648 20000" "$(runtime exec life sh -c 'cd /sys/fs/cgroup; cut -d" " -f1 memory.max cpu.max' | paste -sd' ')"
    same 50331648 "$(systemctl show -P MemoryMax crio-life.scope)"
    # The log is opened anew when it has been moved away.
    mv $top/logs/life.log $top/logs/old.log
    echo "2 0 0" > /run/bundles/life/ctl
    until_true test -e $top/logs/life.log

    runtime kill life 15
    until_true ended life
    same 5 "$(cat $top/exits/life)"
    contains "$(cat $top/logs/life.log)" "stdout F bye"
    contains "$(runtime kill life KILL 2>&1 || true)" "container not running"
    deleted life
    remove_pod podlife
}

case_what_fails_is_told() {
    pod podfail
    bundle fails true "$(in_pod podfail fails) | .process.args = [\"no-such-program\"]"
    local answer
    answer=$(monitor fails || true)
    same -1 "$(jq .pid <<< "$answer")"
    contains "$(jq -r .message <<< "$answer")" "executable file"
    finish fails
    bundle hungry 'x=0123456789; while :; do x=$x$x; done' "$(in_pod podfail hungry)"
    monitor hungry
    runtime start hungry
    until_true ended hungry
    same 137 "$(cat $top/exits/hungry)"
    # Not conmon's file `oom`: systemd may take the empty scope away before conmon reads its memory.events.
    deleted hungry
    remove_pod podfail
}

# A checkpoint as kubelet asks for it, and a container made from it in another pod.
case_checkpoint_and_restore_in_another_pod() {
    pod podone
    pod podtwo
    bundle saved "($counter) & "'while read -r line; do eval "$line"; done' "$(in_pod podone saved) | .process.terminal = true"
    monitor saved -t
    runtime start saved
    until_true test -e /run/bundles/saved/rootfs/count
    echo "1 40 100" > /run/bundles/saved/ctl
    echo 'word=kept; stty size; hostname' | attach saved podone | tee /tmp/seen
    contains "$(cat /tmp/seen)" "40 100"

    local work=/run/bundles/saved/work-path before
    mkdir $work
    runtime pause saved
    before=$(cat /run/bundles/saved/rootfs/count)
    install -m 600 /dev/null $work/dump.log
    runtime checkpoint --file-locks --image-path $work/checkpoint --work-path $work --leave-running saved
    same paused "$(state_of saved)"
    [ -s $work/stats-dump ]
    [ -e $work/checkpoint/inventory.img ]
    runtime resume saved
    counts_on saved "$before"
    echo 'echo still $word' | attach saved "still kept"
    mv $work /tmp/crio-image

    bundle other true "$(in_pod podtwo other) | .process = $(jq .process /run/bundles/saved/config.json)"
    cp -a /run/bundles/saved/upper/. /run/bundles/other/rootfs/
    # The first one still runs.
    install -m 600 /dev/null /run/bundles/other/restore.log
    local pid
    pid=$(monitor other -t --restore /tmp/crio-image/checkpoint | jq .pid)
    same running "$(state_of other)"
    counts_on other "$before"
    contains "$(cat "/proc/$pid/cgroup")" /kubepods-besteffort-podtwo.slice/crio-other.scope
    echo 'echo still $word in $(hostname)' | attach other "still kept in podtwo"
    same "$(nsenter --net=$top/pods/podtwo/net readlink /proc/self/ns/net)" "$(readlink "/proc/$pid/ns/net")"
    runtime kill other 9
    until_true ended other
    same 137 "$(cat $top/exits/other)"
    runtime kill saved 9
    until_true ended saved
    runtime delete saved
    deleted other
    deleted saved
    rm -r /tmp/crio-image
    remove_pod podone
    remove_pod podtwo
}
