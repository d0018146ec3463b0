# How rtc, runc and crun are compared by what they make of limits. No suite: limits.sh and limits-systemd.sh read it.
#
# They say where a cgroup is ($place, directory), how the runtimes are called ($flags), what else there is to see (more)
# and to remove (forget), and in $differences what differs, a line each: case; runtimes; what; why.
. /rtc/suites/bundles.sh

work=/run/limits
files="memory.max memory.low memory.high memory.min memory.swap.max memory.oom.group cpu.max cpu.max.burst cpu.weight
    cpu.idle cpuset.cpus cpuset.mems io.max io.weight pids.max hugetlb.2MB.max hugetlb.2MB.rsvd.max hugetlb.1GB.max
    rdma.max cgroup.max.descendants"

prepare() {
    mkdir $work
    (cd $work && rtc spec)
}

drop_all() {
    local runtime
    for runtime in rtc crun runc; do
        drop $runtime
    done
    rm -r $work
}

program() {
    case $1 in
    rtc) echo /usr/local/bin/rtc ;;
    *) echo "/usr/lib/rtc-peers/new/$1" ;;
    esac
}

# call RUNTIME COMMAND...
call() {
    local runtime=$1
    shift
    "$(program "$runtime")" --root "$work/state-$runtime" $flags "$@"
}

# config RESOURCES [JQ-FILTER]: $work/RUNTIME/config.json for each runtime, alike but for the cgroup.
config() {
    local runtime text
    text=$(jq -c --argjson resources "$1" --arg place "$place" '
        .process.terminal = false | .process.args = ["sleep", "100000"]
        | .root = {"path": "'$base/rootfs'", "readonly": true} | .linux.cgroupsPath = $place
        | .linux.resources = {"devices": [{"allow": false, "access": "rwm"}]} + $resources | '"${2:-.}" $work/config.json)
    for runtime in rtc crun runc; do
        mkdir -p "$work/$runtime"
        echo "${text/RUNTIME/"$runtime"}" > "$work/$runtime/config.json"
    done
}

# look RUNTIME STATUS: what there is to compare, in $work/seen-RUNTIME.
look() {
    local status=refused
    [ "$2" != 0 ] || status=done
    {
        echo "status:$status"
        (cd "$(directory "$1")" 2> /dev/null && { grep -s . $files; more "$1"; }) || true
    } | sort > "$work/seen-$1"
}

# refusal RUNTIME: that it has made no container is all there is to see; crun leaves the cgroup.
refusal() {
    echo "status:refused" > "$work/seen-$1"
}

# drop RUNTIME: kills the container and takes its state away: quicker than the runtimes' own ways.
drop() {
    local directory
    directory=$(directory "$1")
    [ ! -d "$directory" ] || echo 1 > "$directory/cgroup.kill"
    forget "$1"
    until_true removed "$directory"
    rm -rf "$work/state-$1"
}

# removed DIRECTORY: of a cgroup; systemd may be about to remove it too.
removed() {
    rmdir "$1" || [ ! -d "$1" ]
}

# compare CASE RUNTIME...: notes each of them that doesn't differ from rtc just as the table says.
compare() {
    local name=$1 runtime expected found
    shift
    for runtime in "$@"; do
        expected=$(awk -F '; ' -v name="$name" -v runtime="$runtime" \
            '$1 == name && index(" " $2 " ", " " runtime " ") { print $3 }' <<< "$differences")
        found=$(differing "$runtime")
        [ "$expected" = "$found" ] || {
            echo "$name: $runtime differs in: ${found:-nothing}; the table says: ${expected:-nothing}"
            diff $work/seen-rtc "$work/seen-$runtime" || true
            cat "$work/output-rtc" "$work/output-$runtime"
        } >> $work/surprises
    done
}

# verdict: whether compare has noted nothing.
verdict() {
    [ ! -e $work/surprises ] || { cat $work/surprises; return 1; }
}

# differing RUNTIME: the files that it has set to other values than rtc; where only one of the two has made the
# container, no more than that.
differing() {
    local names
    names=$(comm -3 $work/seen-rtc "$work/seen-$1" | tr -d '\t' | cut -d: -f1 | sort -u | xargs)
    case $(wc -l < $work/seen-rtc):$(wc -l < "$work/seen-$1") in
    1:1) echo "$names" ;;
    1:* | *:1) echo status ;;
    *) echo "$names" ;;
    esac
}

# created CASE RESOURCES RUNTIME...: what rtc and the others make of it.
created() {
    local name=$1 resources=$2 runtime status
    shift 2
    config "$resources" "${filter:-.}"
    for runtime in rtc "$@"; do
        status=0
        call "$runtime" create -b "$work/$runtime" "$runtime" > "$work/output-$runtime" 2>&1 < /dev/null ||
            status=$?
        if [ $status = 0 ]; then look "$runtime" 0; else refusal "$runtime"; fi
    done
    compare "$name" "$@"
    for runtime in rtc "$@"; do
        drop "$runtime"
    done
}

# refused CASE RESOURCES RUNTIME...: the same, and rtc refuses it.
refused() {
    created "$@"
    grep -qx status:refused $work/seen-rtc
}

# updated WHAT: the same update of each that runs; options, or an object for standard input.
updated() {
    local runtime status
    for runtime in $running; do
        status=0
        case $1 in
        '{'*) call $runtime update -r - $runtime <<< "$1" > $work/output-$runtime 2>&1 || status=$? ;;
        *) call $runtime update $1 $runtime > $work/output-$runtime 2>&1 < /dev/null || status=$? ;;
        esac
        look $runtime $status
    done
    compare "update $1" ${running#rtc}
}

# run_all RUNTIME...: the configuration, run by each, and what is updated then.
run_all() {
    local runtime
    running="$*"
    for runtime in $running; do
        call $runtime run -d -b $work/$runtime $runtime > /dev/null < /dev/null
    done
}
