# What every suite's shell reads first: where things are, and checks that say what they found.

export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
# Where each process has its code at other addresses, the emulator translates it anew for each: four times the time of a
# small program. A suite that it matters to has it otherwise (checkpoint.sh).
echo 0 > /proc/sys/kernel/randomize_va_space
PS4='+ ${FUNCNAME[0]:-}:${LINENO}: '

# The shim where suites try runc's: that, or rtc's own by its name (README.md).
other_shim=containerd-shim-runc-v2
own_shim=
if [ -e /rtc/own-shim ]; then
    other_shim=containerd-shim-rtc-v2
    own_shim=yes
fi

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

# heeds PID: whether it has said what it does at SIGTERM, which a container's first process doesn't end by otherwise.
heeds() {
    grep -q '^SigCgt:.*[4-7c-f]...$' "/proc/$1/status"
}

# until_true COMMAND...: waits for a state that nothing announces. The case's time-out bounds it.
until_true() {
    # Without the trace of each try.
    { set +x; } 2> /dev/null
    until "$@" > /dev/null 2>&1; do
        sleep 0.1
    done
    set -x
}

# Installs rtc as a user would: in a folder that engines search, with the link that answers for CRIU.
install_rtc() {
    [ ! -e /usr/local/bin/rtc ] || return 0
    cp -L /rtc/bin/rtc /usr/local/bin/rtc
    cp /rtc/bin/containerd-shim-rtc-v2 /usr/local/bin/
    # It comes before the packages' in PATH.
    [ -z "$own_shim" ] || ln -s $other_shim /usr/local/bin/containerd-shim-runc-v2
    # A link in rtc's place: another runtime, to check the suites (README.md).
    [ -L /rtc/bin/rtc ] || rtc install-shim /usr/local/bin
}

# Counts in memory alone, under a token that is drawn once per start. Each turn costs two processes, which are dear under
# emulation, and whatever else runs waits for them: so not more often than a test has to see.
counter='token=$(od -An -N8 -tx8 /dev/urandom | tr -d " "); i=0
    while :; do i=$((i + 1)); echo "$token $i" > /count.new; mv /count.new /count; sleep 0.3; done'

# What a container's shell does that waits for signals and has nothing else to do.
idle='sleep infinity & while :; do wait; done'

# counts_on NAME COUNT: the same program as when its count was that, and further. A suite's `count_of NAME` reads it.
counts_on() {
    local seen
    while :; do
        seen=$(count_of "$1")
        same "${2% *}" "${seen% *}"
        [ "${seen#* }" -le "${2#* }" ] || return 0
        sleep 0.1
    done
}
