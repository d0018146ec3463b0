# What the suites that drive Docker share.

. /rtc/suites/engine.sh
engine=docker
image=localhost/rtc-test:latest
apart="--network none"

# start_docker FILTER: the daemon with contrib's settings as this filter of jq changes them, and an image to run.
start_docker() {
    install_rtc
    # The daemon of Debian's package refuses to start without a program of this name; BuildKit calls it by the name.
    [ -e /usr/local/bin/runc ] || ln -s rtc /usr/local/bin/runc
    mkdir -p /etc/docker
    jq "$1" /rtc/contrib/docker/daemon.json > /etc/docker/new.json
    # Another suite may have started it with the same ones.
    if ! cmp -s /etc/docker/new.json /etc/docker/daemon.json || ! systemctl is-active docker; then
        mv /etc/docker/new.json /etc/docker/daemon.json
        restart_docker
    fi
    docker image inspect -f '{{.Id}}' $image || import_image
}

restart_docker() {
    # The unit may be started three times a minute only.
    systemctl reset-failed docker
    systemctl restart docker
}

import_image() {
    local work manifest
    work=$(mktemp -d)
    tar -C "$work" -xf /usr/lib/rtc-images/test.tar
    manifest=$work/blobs/sha256/$(jq -r '.manifests[0].digest[7:]' "$work/index.json")
    docker import -c 'ENV PATH=/bin:/usr/bin' "$work/blobs/sha256/$(jq -r '.layers[0].digest[7:]' "$manifest")" $image
    rm -r "$work"
}

remove_all() {
    docker rm -f $(docker ps -aq)
    docker network prune -f
}

cleanup() {
    remove_all
}

# field NAME TEMPLATE: from docker's own account of a container.
field() {
    docker inspect --format "{{$2}}" "$1"
}

# first_process ID
first_process() {
    field "$1" .State.Pid
}

# is NAME TEXT TEMPLATE
is() {
    [ "$(field "$1" "$3")" = "$2" ]
}

# logged NAME LINE
logged() {
    docker logs "$1" 2>&1 | grep -qx "$2"
}

# start_from NAME CHECKPOINT
start_from() {
    # Docker gives containerd the files as an archive and fails if containerd still has the very same from the
    # checkpoint: another time of a file makes it another.
    touch -d @1 "$(dirname "$(field "$1" .LogPath)")/checkpoints/$2/inventory.img"
    docker start --checkpoint "$2" "$1"
}
