# What every suite's shell reads first: where things are, and checks that say what they found.

export PATH=/rtc/bin:$PATH HOME=/root
PS4='+ ${FUNCNAME[0]:-}:${LINENO}: '

# same EXPECTED ACTUAL
same() {
    [ "$1" = "$2" ] || { echo "expected: $1"; echo "but is:   $2"; return 1; }
}

# contains TEXT PART
contains() {
    case $1 in
    *"$2"*) ;;
    *) echo "$2 is not in: $1"; return 1 ;;
    esac
}

# fails COMMAND...: true if it exits with a status of its own other than 0.
fails() {
    if "$@"; then
        echo "did not fail: $*"
        return 1
    fi
}

# until_true COMMAND...: waits for a state that nothing announces. The case's time-out bounds it.
until_true() {
    until "$@" > /dev/null 2>&1; do
        sleep 0.1
    done
}
