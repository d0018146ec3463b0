# What the suites of podman share. No suite: podman.sh and others read it.

. /rtc/suites/engine.sh
engine=podman
image=localhost/rtc-test
apart=
# What a server in the same network namespace says as soon as it does.
fetch='until wget -qO- http://127.0.0.1/index.html 2> /dev/null; do sleep 0.1; done'

# install_podman SETTINGS...: rtc, files of settings that name it, and an image to run.
install_podman() {
    install_rtc
    mkdir -p /etc/containers/containers.conf.d
    (cd /rtc/contrib/podman; cp "$@" /etc/containers/containers.conf.d/)
    # Another suite may have brought it into this VM.
    podman image exists $image || podman load -q -i /usr/lib/rtc-images/test.tar
}

# On the guest `shell`.
setup() {
    install_podman rtc.conf /rtc/suites/podman.conf
    same rtc "$(podman info --format '{{.Host.OCIRuntime.Name}}')"
}

cleanup() {
    podman pod rm -fa -t 0
    podman rm -fa -t 0
    podman network prune -f
    podman volume rm -fa
    podman secret rm -a
}

# first_process ID: the pid of a container that was never restored, without podman, whose every call takes a second.
first_process() {
    cat "/run/containers/storage/overlay-containers/$1/userdata/pidfile"
}

# field NAME TEMPLATE: from podman's own account of a container.
field() {
    podman container inspect --format "{{$2}}" "$1"
}

# cgroup NAME: where the container's cgroup is on the host.
cgroup() {
    echo "/sys/fs/cgroup$(field "$1" .State.CgroupPath)"
}

contained_in_logs() {
    podman logs "$1" 2>&1 | tr -d '\r' | grep -qx "$2"
}
