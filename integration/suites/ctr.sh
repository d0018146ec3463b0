# What the suites that drive containerd by ctr share. A suite says how its containers run: `how`, options of ctr run.

image=localhost/rtc-test:latest

# Starts containerd, unless another suite has.
start_containerd() {
    # The suites of the CRI have one of their own, with options.
    if ! pgrep -fx containerd; then
        setsid containerd > /var/log/containerd.log 2>&1 < /dev/null &
        # ctr waits ten seconds where there is no socket.
        until_true test -S /run/containerd/containerd.sock
        until_true ctr version
    fi
}

# Imports the image, unless another suite has.
load_image() {
    ctr image ls -q | grep -qx $image || ctr image import /usr/lib/rtc-images/test.tar
}

setup() {
    install_rtc
    start_containerd
    load_image
}

# run [OPTION[=VALUE]...] NAME COMMAND...
run() {
    local options=()
    while [[ $1 == -* ]]; do
        options+=("$1")
        shift
    done
    ctr run $how "${options[@]}" $image "$@"
}

# inside NAME COMMAND...
inside() {
    local name=$1
    shift
    ctr task exec --exec-id "x$RANDOM$RANDOM" "$name" "$@"
}

# start_counter NAME [OPTION...]
start_counter() {
    local name=$1
    shift
    run -d "$@" "$name" sh -c "$counter"
    until_true inside "$name" test -e /count
}

# count_of NAME
count_of() {
    inside "$1" cat /count
}

# status NAME: as containerd sees it.
status() {
    ctr task ls | awk -v name="$1" '$1 == name { print $3 }'
}

# remove NAME: ends and removes a container that runs.
remove() {
    ctr task kill -s 9 "$1"
    until_true stopped "$1"
    ctr task delete "$1" || [ $? = 137 ]
    ctr container delete "$1"
}

stopped() {
    [ "$(status "$1")" = STOPPED ]
}

cleanup() {
    local name
    for name in $(ctr container ls -q); do
        ctr task delete --force "$name"
        ctr container delete "$name"
    done
}
