# What the suites of podman on the guest `shell` share. No suite: podman.sh and others read it.

image=localhost/rtc-test

prepare_podman() {
    install_rtc
    mkdir -p /etc/containers/containers.conf.d
    cp /rtc/contrib/podman/rtc.conf /rtc/suites/podman.conf /etc/containers/containers.conf.d/
    podman load -q -i /usr/lib/rtc-images/test.tar
    same rtc "$(podman info --format '{{.Host.OCIRuntime.Name}}')"
}

# field NAME TEMPLATE: from podman's own account of a container.
field() {
    podman container inspect --format "{{$2}}" "$1"
}

# cgroup NAME: where the container's cgroup is on the host.
cgroup() {
    echo "/sys/fs/cgroup$(field "$1" .State.CgroupPath)"
}

# start_counter NAME [OPTION...]: returns once it counts.
start_counter() {
    local name=$1
    shift
    podman run -d --name "$name" "$@" $image sh -c "$counter"
    until_true podman exec "$name" test -e /count
}

# counts_on NAME TOKEN NUMBER: the same program, further than before.
counts_on() {
    local seen
    while :; do
        seen=$(podman exec "$1" cat /count)
        same "$2" "${seen% *}"
        [ "${seen#* }" -le "$3" ] || return 0
        sleep 0.1
    done
}

contained_in_logs() {
    podman logs "$1" 2>&1 | tr -d '\r' | grep -qx "$2"
}
