# Bundles for rtc alone, and what their suites look at. No suite: bare.sh and others read it.

base=/var/lib/rtc-test

# prepare_bundles: installs rtc and unpacks the root file system that all bundles share, unless another suite has.
prepare_bundles() {
    install_rtc
    [ ! -e $base/rootfs/bin ] || return 0
    mkdir -p $base/rootfs /run/bundles
    local layers=$base/image
    mkdir -p $layers
    tar -C $layers -xf /usr/lib/rtc-images/test.tar
    tar -C $base/rootfs -xf "$layers/$(jq -r '"blobs/sha256/" + .layers[0].digest[7:]' "$layers/blobs/sha256/$(
        jq -r '.manifests[0].digest[7:]' $layers/index.json)")"
    rm -r $layers
}

setup() {
    prepare_bundles
}

cleanup() {
    remove_bundles
}

# bundle NAME COMMAND [JQ-FILTER]: a bundle with a root of its own, whose init is a shell running COMMAND.
bundle() {
    local dir=/run/bundles/$1
    mkdir -p "$dir/rootfs" "$dir/upper" "$dir/work"
    mount -t overlay -o "lowerdir=$base/rootfs,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/rootfs"
    (cd "$dir" && rtc spec)
    jq --arg command "$2" --arg id "$1" '
        .process.terminal = false | .process.args = ["sh", "-c", $command] | .root.readonly = false |
        .linux.cgroupsPath = "/bare/" + $id |
        .linux.namespaces |= (map(select(.type != "cgroup")) + [{"type": "cgroup"}]) |
        '"${3:-.}" "$dir/config.json" > "$dir/new.json"
    mv "$dir/new.json" "$dir/config.json"
}

# start NAME COMMAND [JQ-FILTER]: makes a bundle and runs it in the background.
start() {
    bundle "$@"
    rtc run -d -b "/run/bundles/$1" "$1" > /dev/null 2>&1 < /dev/null
}

# finish NAME: removes container and bundle, and checks that nothing of them is left.
finish() {
    rtc delete --force "$1"
    umount "/run/bundles/$1/rootfs"
    rm -r "/run/bundles/$1"
    [ ! -e "/sys/fs/cgroup/bare/$1" ]
    same "" "$(rtc list -q | grep -x "$1" || true)"
    same "" "$(grep -F "/run/bundles/$1" /proc/self/mountinfo || true)"
}

# remove_bundles: whatever a failed case left.
remove_bundles() {
    local name
    for name in /run/bundles/*; do
        rtc delete --force "${name##*/}"
        umount "$name/rootfs"
        rm -r "$name"
    done
}

# group NAME FILE: a file of the container's cgroup, read on the host.
group() {
    cat "/sys/fs/cgroup/bare/$1/$2"
}

status() {
    rtc state "$1" | jq -r .status
}

# count_of NAME
count_of() {
    cat "/run/bundles/$1/rootfs/count"
}

# All limits that the kernel keeps in a file, in three places: config, files, update.
limits='.linux.resources += {
    "memory": {"limit": 67108864, "reservation": 33554432, "swap": 100663296},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 33},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
    "unified": {"memory.oom.group": "1", "cpu.max.burst": "1000"}}'
