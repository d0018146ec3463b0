# What podman can do with checkpoints beyond saving a container and bringing it back (podman.sh has that).
# seconds: 135
. /rtc/suites/podman-common.sh

case_one_archive_becomes_several_containers() {
    podman network create --subnet 10.77.0.0/24 twins
    start_counter origin --network twins --ip 10.77.0.5 --mac-address 92:d0:c6:0a:29:33 --memory 64m
    local before kind name
    before=$(podman exec origin cat /count)
    podman container checkpoint --leave-running --compress gzip --export /tmp/origin.gzip origin
    podman container checkpoint --compress none --export /tmp/origin.none origin
    same 1f8b "$(od -An -N2 -tx1 /tmp/origin.gzip | tr -d ' ')"
    podman rm origin
    # Both at once, each with an address of its own.
    for kind in none gzip; do
        podman container restore --ignore-static-ip --ignore-static-mac --import /tmp/origin.$kind --name twin-$kind &
    done
    wait
    for name in twin-none twin-gzip; do
        counts_on $name "$before"
        same 67108864 "$(podman exec $name cat /sys/fs/cgroup/memory.max)"
        podman exec $name ip -4 -o addr show dev eth0 >> /tmp/addresses
    done
    same 2 "$(grep -o 'inet [0-9.]*' /tmp/addresses | sort -u | wc -l)"
    podman rm -f -t 0 twin-none twin-gzip
    # With the address it had, and another port of the host's.
    podman container restore --import /tmp/origin.none --name again --publish 8081:80
    contains "$(podman exec again ip addr show dev eth0)" "10.77.0.5/24"
    contains "$(podman exec again ip addr show dev eth0)" "92:d0:c6:0a:29:33"
    podman exec -d again sh -c 'echo published > index.html; exec httpd -f -p 80'
    until_true curl -sf localhost:8081/index.html
    podman rm -f -t 0 again
    podman network rm twins
    rm /tmp/origin.* /tmp/addresses
}

case_a_checkpoint_before_the_checkpoint() {
    start_counter iterated
    local before
    before=$(podman exec iterated cat /count)
    podman container checkpoint --pre-checkpoint iterated
    same running "$(field iterated .State.Status)"
    counts_on iterated "$before"
    podman container checkpoint --with-previous iterated
    podman container restore iterated
    counts_on iterated "$before"
    # The same by archives, elsewhere.
    podman container checkpoint --pre-checkpoint --export /tmp/first.tar iterated
    podman container checkpoint --with-previous --export /tmp/second.tar iterated
    podman rm iterated
    podman container restore --import-previous /tmp/first.tar --import /tmp/second.tar
    counts_on iterated "$before"
    podman rm -f -t 0 iterated
    rm /tmp/first.tar /tmp/second.tar
}

case_a_connection_to_the_host_lives_on() {
    podman network create --subnet 10.78.0.0/24 wired
    podman run -d --name echo --network wired --ip 10.78.0.5 $image sh -c 'exec nc -ll -p 7 -e cat'
    until_true podman exec echo sh -c 'grep -q :0007 /proc/net/tcp6 || grep -q :0007 /proc/net/tcp'
    exec 9<> /dev/tcp/10.78.0.5/7
    local line
    echo before >&9
    read -r line <&9
    same before "$line"
    fails podman container checkpoint echo 2> /tmp/err
    contains "$(cat /tmp/err)" "--tcp-established"
    same running "$(field echo .State.Status)"
    podman container checkpoint --tcp-established echo
    echo meanwhile >&9
    podman container restore --tcp-established echo
    read -r line <&9
    same meanwhile "$line"
    podman container checkpoint --tcp-established --export /tmp/echo.tar echo
    podman rm echo
    podman container restore --tcp-established --import /tmp/echo.tar
    echo after >&9
    read -r line <&9
    same after "$line"
    exec 9>&-
    podman rm -f -t 0 echo
    podman network rm wired
    rm /tmp/echo.tar
}

case_volumes_secrets_and_mounts_come_along() {
    podman volume create kept
    mkdir -p /tmp/bound
    echo bound > /tmp/bound/file
    printf 'a secret' | podman secret create word -
    echo containers:1000000:131072 | tee -a /etc/subuid >> /etc/subgid
    start_counter laden --volume kept:/kept --volume /tmp/bound:/bound:ro --secret word --init --tmpfs /data \
        --shm-size 3m --mount type=tmpfs,dst=/scratch,tmpfs-size=1m \
        --health-cmd 'test -e /kept/healthy' --health-interval disable --userns auto:size=3000
    local before
    before=$(podman exec laden cat /count)
    podman exec laden sh -c 'echo kept > /kept/file; echo x > /scratch/x; echo y > /dev/shm/y; touch /kept/healthy'
    podman container checkpoint --export /tmp/laden.tar laden
    podman rm -v laden
    podman volume rm kept
    podman container restore --import /tmp/laden.tar
    counts_on laden "$before"
    same "kept bound x y a secret" "$(podman exec laden sh -c 'cat /kept/file /bound/file /scratch/x /dev/shm/y /run/secrets/word' |
        paste -sd' ')"
    same podman-init "$(podman exec laden cat /proc/1/comm)"
    podman healthcheck run laden
    podman container checkpoint --ignore-rootfs --ignore-volumes --export /tmp/laden.tar laden
    podman container restore laden
    counts_on laden "$before"
    podman rm -f -t 0 laden
    podman volume rm kept
    podman secret rm word
    sed -i /^containers:/d /etc/subuid /etc/subgid
    rm -r /tmp/bound /tmp/laden.tar
}

case_all_at_once() {
    start_counter one
    start_counter two
    local first second
    first=$(podman exec one cat /count)
    second=$(podman exec two cat /count)
    podman container checkpoint --all
    same "exited exited" "$(podman inspect --format '{{.State.Status}}' one two | paste -sd' ')"
    podman container restore --all
    counts_on one "$first"
    counts_on two "$second"
    podman rm -f -t 0 one two
}

case_a_container_of_a_pod_and_into_another() {
    podman pod create --name old --network none --share net,ipc,uts --hostname here
    podman pod create --name new --network none --share net,ipc,uts --hostname there
    start_counter member --pod old
    local before
    before=$(podman exec member cat /count)
    podman container checkpoint member
    podman container restore member
    counts_on member "$before"
    podman container checkpoint --export /tmp/member.tar member
    podman rm member
    podman container restore --import /tmp/member.tar --pod new --name moved
    counts_on moved "$before"
    local infra
    infra=$(podman pod inspect --format '{{.InfraContainerID}}' new)
    same "$(readlink "/proc/$(field "$infra" .State.Pid)/ns/net")" "$(podman exec moved readlink /proc/1/ns/net)"
    same there "$(podman exec moved hostname)"
    podman pod rm -f -t 0 old new
    rm /tmp/member.tar
}

case_a_notify_socket() {
    podman run -d --name told --sdnotify container $image sh -c "$counter" &
    wait
    until_true podman exec told test -e /count
    podman container checkpoint told
    podman container restore told
    podman rm -f -t 0 told
}

case_restarts_after_a_restore_begin_anew() {
    start_counter anew --restart always --stop-timeout 0
    local before
    before=$(podman exec anew cat /count)
    podman container checkpoint --keep anew
    podman container restore --keep anew
    counts_on anew "$before"
    podman restart anew
    until_true podman exec anew test -e /count
    [ "$(podman exec anew cut -d' ' -f1 /count)" != "${before% *}" ]
    kill -9 "$(field anew .State.Pid)"
    until_true podman exec anew true
    podman rm -f -t 0 anew
}

# Without a cgroup, and in one where conmon isn't.
case_cgroups_that_are_not_podmans() {
    local none together
    start_counter none --cgroups disabled
    start_counter together --cgroups no-conmon --memory 64m
    none=$(podman exec none cat /count)
    together=$(podman exec together cat /count)
    same "" "$(field none .State.CgroupPath)"
    podman container checkpoint none together
    podman container restore none together
    counts_on none "$none"
    counts_on together "$together"
    same "$(cat /proc/self/cgroup)" "$(cat "/proc/$(field none .State.Pid)/cgroup")"
    same 67108864 "$(podman exec together cat /sys/fs/cgroup/memory.max)"
    podman rm -f -t 0 none together
}
