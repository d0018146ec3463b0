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

# listen: writes events to /tmp/events, for the caller from now on; `listener` is who does.
listen() {
    ctr events > /tmp/events &
    listener=$!
    # It doesn't say when it hears.
    until_true heard
}

# heard: whether it hears what is told it.
heard() {
    ctr namespaces label default "told=$RANDOM$RANDOM"
    grep -q /namespaces/update /tmp/events
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

# The cases of both suites. Each says what `nothing_left NAME` is.

output_and_exit_status() {
    local status=0
    run --rm plain sh -c 'echo out; echo err >&2; exit 7' > /tmp/out 2> /tmp/err || status=$?
    same 7 "$status"
    same out "$(cat /tmp/out)"
    same err "$(tail -n 1 /tmp/err)"
    nothing_left plain
}

a_program_that_is_not_there() {
    local status=0
    run --rm broken no-such-program 2> /tmp/err || status=$?
    same 1 "$status"
    contains "$(cat /tmp/err)" "executable file"
    same "" "$(ctr container ls -q)"
    nothing_left broken
}

pause_kill_and_delete() {
    start_counter stops
    ctr task pause stops
    same PAUSED "$(status stops)"
    contains "$(cat /sys/fs/cgroup/default/stops/cgroup.events)" "frozen 1"
    ctr task resume stops
    same RUNNING "$(status stops)"
    fails ctr task delete stops
    remove stops
    nothing_left stops
}

# checkpoint_and_restore SHIM: its name as containerd has it.
checkpoint_and_restore() {
    start_counter saved
    local before
    before=$(inside saved cat /count)
    ctr container checkpoint --task --rw --image saved localhost/saved:latest
    # ctr leaves it running; the restored one takes its place.
    same RUNNING "$(status saved)"
    counts_on saved "$before"
    remove saved
    ctr container restore --live --rw saved localhost/saved:latest
    same RUNNING "$(status saved)"
    counts_on saved "$before"
    contains "$(inside saved ps -o pid,args)" "1 sh -c token"
    same "$1" "$(ctr container info saved | jq -r .Runtime.Name)"
    remove saved
    ctr image rm localhost/saved:latest
    nothing_left saved
}
