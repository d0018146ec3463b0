# Containers of an ordinary user: rtc alone, with the user's systemd, and below podman.
# guest: systemd
# seconds: 132
. /rtc/suites/bundles.sh

home=/home/tester
loop='while :; do sleep 1; done'

setup() {
    prepare_bundles
    # Pasta makes a network like the one of the interface that it takes for the way out, as it would docker's bridge.
    systemctl stop docker.socket docker
    ip link delete docker0 || true
    # The user's systemd, as a login would start it.
    systemctl start user@1000.service
    mkdir -p $home/.config/containers
    cat > $home/.config/containers/containers.conf << 'END'
[engine]
cgroup_manager = "systemd"
events_logger = "file"
runtime = "rtc"
runtime_supports_json = ["rtc"]
runtime_supports_nocgroup = ["rtc"]
[engine.runtimes]
rtc = ["/usr/local/bin/rtc"]
[containers]
log_driver = "k8s-file"
END
    chown -R tester: $home
}

cleanup() {
    local name
    for name in $(user rtc list -q) $(user rtc --root $home/state list -q); do
        user rtc delete --force "$name"
        user rtc --root $home/state delete --force "$name"
    done
    user podman pod rm --all --force --time 0
    user podman rm --all --force --time 0
    rm -rf $home/b
}

# user COMMAND...: runs it as tester, in the cgroup of the tests, as from a session outside of the user's systemd.
user() {
    setpriv --reuid tester --regid tester --init-groups env -i "PATH=$PATH" HOME=$home XDG_RUNTIME_DIR=/run/user/1000 "$@"
}

# user_inside COMMAND...: as a service of the user's systemd, where cgroups are delegated.
user_inside() {
    user systemd-run --user --quiet --pipe --wait --collect "$@"
}

# user_bundle NAME COMMAND [JQ-FILTER]: a bundle of the user's, as `rtc spec --rootless` begins it.
user_bundle() {
    local dir=$home/b/$1
    user mkdir -p "$dir/rootfs"
    user cp -a $base/rootfs/. "$dir/rootfs"
    user sh -c "cd $dir && rtc spec --rootless"
    jq --arg command "$2" '.process.terminal = false | .process.args = ["sh", "-c", $command] |
        .root.readonly = false | '"${3:-.}" "$dir/config.json" > "$dir/new.json"
    mv "$dir/new.json" "$dir/config.json"
}

stopped() {
    [ "$(user rtc state "$1" | jq -r .status)" = stopped ]
}

# gone NAME: nothing is left of it.
gone() {
    fails user rtc state "$1"
    [ ! -e "/run/user/1000/rtc/$1" ]
    same "" "$(grep -F "$home/b/$1" /proc/self/mountinfo || true)"
    rm -r "$home/b/$1"
}

ids='.linux.uidMappings = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 65536}]
    | .linux.gidMappings = .linux.uidMappings'

case_one_id_and_no_cgroup() {
    user_bundle alone 'id -u; cat /proc/self/uid_map; stat -c "%t:%T" /dev/null; echo x > /dev/null;
        ls /sys/kernel > /dev/null && hostname; cat /proc/self/setgroups; touch /made' '.hostname = "inside"'
    same "0 0 1000 1 1:3 inside deny" "$(user rtc run -b $home/b/alone alone | xargs)"
    same tester "$(stat -c %U $home/b/alone/rootfs/made)"
    gone alone
}

case_a_whole_life() {
    user_bundle life "$loop"
    user rtc create -b $home/b/life --pid-file $home/pid life > /dev/null < /dev/null
    same created "$(user rtc state life | jq -r .status)"
    user rtc start life
    same running "$(user rtc state life | jq -r .status)"
    same tester "$(user rtc list | awk '$1 == "life" {print $6}')"
    same "$(cat $home/pid)" "$(user rtc state life | jq .pid)"
    same 0 "$(user rtc exec life id -u)"
    same "$(user rtc exec life readlink /proc/1/ns/user)" "$(user rtc exec life readlink /proc/self/ns/user)"
    fails user rtc pause life 2> /tmp/err
    contains "$(cat /tmp/err)" "no cgroup"
    user rtc kill life KILL
    until_true stopped life
    user rtc delete life
    gone life
}

case_limits_need_a_cgroup() {
    user_bundle limited "$loop" '.linux.resources = {"pids": {"limit": 9}}'
    fails user rtc run -d -b $home/b/limited limited 2> /tmp/err
    contains "$(cat /tmp/err)" "cannot set pids.limit: container could not join or create cgroup"
    gone limited
}

case_more_ids_by_newuidmap() {
    user_bundle mapped 'id; cat /proc/self/uid_map; stat -c %u:%g /owned; chown 7:7 /owned' \
        "$ids"' | .process.user = {"uid": 5, "gid": 7, "additionalGids": [9]}
        | .process.capabilities.bounding += ["CAP_CHOWN"]'
    touch $home/b/mapped/rootfs/owned
    chown 100004:100006 $home/b/mapped/rootfs/owned
    local out
    out=$(user rtc run -b $home/b/mapped mapped 2>&1 | xargs) || true
    contains "$out" "uid=5 gid=7 groups=9"
    contains "$out" "0 1000 1 1 100000 65536"
    contains "$out" "5:7"
    chown -R tester: $home/b/mapped
    gone mapped
    user_bundle foreign true '.linux.uidMappings[0].hostID = 500'
    fails user rtc run -b $home/b/foreign foreign 2> /tmp/err
    contains "$(cat /tmp/err)" "newuidmap"
    gone foreign
}

# The same from both sides of the border of what is delegated.
scope_of_the_user() {
    local how=$1 group=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/test-$2.scope
    user_bundle "$2" 'exec sleep 1000' '.linux.cgroupsPath = "user.slice:test:'"$2"'" | .linux.resources = {
        "memory": {"limit": 67108864}, "pids": {"limit": 33}}'
    $how rtc --systemd-cgroup run -d -b $home/b/$2 "$2" > /dev/null < /dev/null
    same 67108864 "$(cat "$group/memory.max")"
    same 33 "$(user systemctl --user show -P TasksMax "test-$2.scope")"
    same 33 "$(user rtc exec "$2" cat /sys/fs/cgroup/pids.max)"
    same 1 "$(user rtc exec "$2" cat /proc/self/cgroup | grep -cx 0::/)"
    user rtc exec -d "$2" sleep 1000
    same 2 "$(grep -c . "$group/cgroup.procs")"
    user rtc update --pids-limit 44 "$2"
    same 44 "$(cat "$group/pids.max")"
    same 44 "$(user systemctl --user show -P TasksMax "test-$2.scope")"
    user rtc pause "$2"
    same 1 "$(cat "$group/cgroup.freeze")"
    user rtc delete --force "$2"
    same not-found "$(user systemctl --user show -P LoadState "test-$2.scope")"
    [ ! -e "$group" ]
    gone "$2"
}

case_a_scope_of_the_users_systemd() {
    scope_of_the_user user_inside inner
}

case_a_scope_from_a_session_outside() {
    scope_of_the_user user outer
}

case_a_delegated_cgroup_without_systemd() {
    user_bundle delegated 'cat /proc/self/cgroup; cat /sys/fs/cgroup/pids.max' '.linux.resources = {"pids": {"limit": 33}}'
    # Beside the cgroup of the caller: the user's app.slice, which hands controllers down.
    same "0::/ 33" "$(user_inside rtc run -b $home/b/delegated delegated | xargs)"
    gone delegated
}

case_without_a_user_namespace_there_is_a_hint() {
    user_bundle plain true '.linux.namespaces |= map(select(.type != "user")) | del(.linux.uidMappings, .linux.gidMappings)'
    fails user rtc run -b $home/b/plain plain 2> /tmp/err
    contains "$(cat /tmp/err)" "rootless container requires user namespaces"
    contains "$(cat /tmp/err)" "rtc spec --rootless"
    gone plain
}

load_image() {
    user podman image exists rtc-test || user podman load -q -i /usr/lib/rtc-images/test.tar
}

case_podman_runs_rtc() {
    user podman --version > /dev/null
    load_image
    same "0 inside" "$(user podman run --rm --network none --hostname inside rtc-test sh -c 'id -u; hostname' | xargs)"
    user podman run -d --name pod --network none --memory 64m --pids-limit 50 rtc-test sh -c "$loop"
    same rtc "$(user podman inspect pod | jq -r '.[0].OCIRuntime')"
    same 67108864 "$(user podman exec pod cat /sys/fs/cgroup/memory.max)"
    same 50 "$(user podman exec pod cat /sys/fs/cgroup/pids.max)"
    same 7 "$(user podman exec --user 7 pod id -u)"
    user podman pause pod
    user podman unpause pod
    user podman update --memory 80m pod
    same 83886080 "$(user podman exec pod cat /sys/fs/cgroup/memory.max)"
    fails user podman container checkpoint pod 2> /tmp/err
    contains "$(cat /tmp/err)" "requires root"
    fails user podman unshare rtc checkpoint --image-path /tmp/image "$(user podman inspect pod | jq -r '.[0].Id')" 2> /tmp/err
    contains "$(cat /tmp/err)" "needs the machine's root"
    user podman stop --time 0 pod
    user podman rm pod
    same "" "$(user rtc list -q)"
}

case_podman_without_cgroups_and_with_ids_kept() {
    load_image
    same 0 "$(user podman run --rm --network none --cgroups disabled rtc-test id -u)"
    same "1000 0 1 1000 1000 0 1 1001 1001 64536" \
        "$(user podman run --rm --network none --userns keep-id rtc-test sh -c 'id -u; cat /proc/self/uid_map' | xargs)"
    same "0 1 65536" "$(user podman run --rm --network none --userns nomap rtc-test cat /proc/self/uid_map | xargs)"
    printf 'a secret' | user podman secret create word -
    user podman run --rm --network none --read-only --init --secret word --device /dev/null:/dev/nothing --tmpfs /scratch \
        --security-opt no-new-privileges rtc-test sh -euxc '
            [ "$(cat /run/secrets/word)" = "a secret" ]
            [ "$(cat /proc/1/comm)" = podman-init ]
            echo x > /dev/nothing
            touch /scratch/new
            ! touch /new 2> /dev/null
            grep -q "^NoNewPrivs:.1" /proc/self/status'
    user podman secret rm word
    same 0 "$(user podman --cgroup-manager cgroupfs run --rm --network none rtc-test id -u)"
    same 0 "$(user podman run --rm --network host rtc-test sh -c 'ls /sys/class/net > /dev/null && id -u')"
    same "" "$(user rtc list -q)"
}

case_podmans_other_words() {
    load_image
    user podman volume create kept
    contains "$(user script -qefc "podman run --rm -t --network none rtc-test sh -c 'tty && test -t 1 && echo both'" /dev/null)" both
    user podman run -d --name web --network none --cpus 0.5 -v kept:/kept --health-cmd 'test -e /kept/well' \
        --health-interval disable rtc-test sh -c "trap 'echo asked > /kept/end; exit 3' TERM; touch /kept/well; $loop"
    same "50000 100000" "$(user podman exec web cat /sys/fs/cgroup/cpu.max)"
    until_true user podman healthcheck run web
    contains "$(user podman top web pid comm)" sh
    same web "$(user podman stats --no-stream --format '{{.Name}}' web)"
    user podman stop --time 60 web
    same 3 "$(user podman inspect web | jq '.[0].State.ExitCode')"
    same asked "$(user podman run --rm --network none -v kept:/there rtc-test cat /there/end)"
    user podman start web
    user podman kill web
    same 137 "$(user podman wait web)"
    user podman rm web
    user podman volume rm kept
    same "" "$(user rtc list -q)"
}

case_podmans_pods_and_units() {
    load_image
    user podman pod create --name both --network none --share net,ipc,uts --hostname shared
    user podman run -d --pod both --name one rtc-test sh -c "$loop"
    user podman run -d --pod both --name two rtc-test sh -c "$loop"
    same "shared shared" "$(user podman exec one hostname) $(user podman exec two hostname)"
    same "$(user podman exec one readlink /proc/self/ns/ipc)" "$(user podman exec two readlink /proc/self/ns/ipc)"
    user podman pod stop --time 0 both
    user podman pod rm both
    user mkdir -p $home/.config/containers/systemd
    # Without the wait for a network that the guest hasn't.
    user tee $home/.config/containers/systemd/unit.container > /dev/null << 'END'
[Quadlet]
DefaultDependencies=false

[Container]
Image=localhost/rtc-test
ContainerName=unit
Network=none
Exec=sh -c 'while :; do sleep 1; done'
StopTimeout=0
PidsLimit=20
END
    user systemctl --user daemon-reload
    user systemctl --user start unit.service
    same 20 "$(user podman exec unit cat /sys/fs/cgroup/pids.max)"
    user systemctl --user stop unit.service
    fails user podman inspect unit
    rm $home/.config/containers/systemd/unit.container
    user systemctl --user daemon-reload
    same "" "$(user rtc list -q)"
}

case_podman_builds_publishes_and_shares() {
    load_image
    groupadd -f keepers
    usermod -aG keepers tester
    user mkdir -p $home/b/built
    printf 'FROM localhost/rtc-test\nRUN id -u > /data/index.html && chown 7:8 /data && touch /data/x\nUSER 7:8\n%s\n' \
        'CMD stat -c %u:%g /data > /tmp/owner && exec httpd -f -p 8000 -h /data' | user tee $home/b/built/Containerfile
    user podman build -q -t localhost/built $home/b/built
    echo lower | user tee $home/b/built/file
    echo for the group > /tmp/kept
    chgrp keepers /tmp/kept
    chmod 640 /tmp/kept
    # Through pasta. The names of overlay's layers are longer than fsconfig(2) takes.
    user podman run -d --name web --publish 8090:8000 --group-add keep-groups --volume /tmp/kept:/kept:ro \
        --volume $home/b/built:/over:O --mount type=image,src=localhost/rtc-test,dst=/image --ulimit nofile=111:222 \
        --uts host --user 0 localhost/built
    until_true curl -sf --max-time 5 http://127.0.0.1:8090/index.html
    same 0 "$(curl -sf http://127.0.0.1:8090/index.html)"
    user podman exec web sh -euxc '
        [ "$(cat /tmp/owner /kept | xargs)" = "7:8 for the group" ]
        [ "$(ulimit -Sn):$(ulimit -Hn)" = 111:222 ]
        cmp /bin/busybox /image/bin/busybox
        echo upper > /over/file
        [ "$(cat /over/file)" = upper ]'
    same lower "$(cat $home/b/built/file)"
    user podman run --rm --network container:web --pid container:web --ipc container:web rtc-test sh -euxc '
        [ "$(cat /proc/1/comm)" = httpd ]
        [ "$(wget -qO- http://127.0.0.1:8000/index.html)" = 0 ]
        for kind in net pid ipc; do [ "$(readlink /proc/1/ns/$kind)" = "$(readlink /proc/self/ns/$kind)" ]; done'
    fails user podman run --rm --network none --volume /tmp/kept:/kept:ro rtc-test cat /kept
    user podman cp $home/b/built/file web:/data/copied
    same lower "$(user podman exec web cat /data/copied)"
    user podman rm -f -t 0 web
    user podman rmi localhost/built
    groupdel keepers
    rm -r /tmp/kept $home/b/built
}

# systemd in a container of the user's, which is a unit of the user's systemd.
case_podman_boots_systemd() {
    local root=$home/b/root name
    user mkdir -p $root/etc $root/var
    # Else it would bring caches up to date first.
    user touch $root/etc/.updated $root/var/.updated $root/etc/machine-id
    for name in bin sbin lib lib64; do
        user ln -s usr/$name $root/$name
    done
    # It has started when systemd in the container says so.
    user systemd-run --user --quiet --unit inner -p Type=notify -p NotifyAccess=all podman run --rm --name inner \
        --sdnotify container --systemd always --network none --volume /usr:/usr:ro --rootfs $root \
        /lib/systemd/systemd --unit basic.target systemd.show_status=no
    user podman exec inner sh -euxc '
        [ "$(cat /proc/1/comm):$(systemctl is-active basic.target)" = systemd:active ]
        [ "$(head -n 1 /proc/self/uid_map | xargs)" = "0 1000 1" ]
        systemd-run --quiet --unit short -p TasksMax=7 sleep 1000
        [ "$(cat /proc/$(systemctl show -P MainPID short)/cgroup)" = 0::/system.slice/short.service ]
        [ "$(cat /sys/fs/cgroup/system.slice/short.service/pids.max)" = 7 ]'
    user podman stop -t 60 inner
    until_true fails user systemctl --user is-active inner
    until_true fails user podman container exists inner
    rm -r $root
}
