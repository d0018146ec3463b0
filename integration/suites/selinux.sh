# SELinux, enforcing: the labels of programs, mounts and keys, and what comes back from a checkpoint.
# guest: selinux

. /rtc/suites/bundles.sh

label=system_u:system_r:container_t:s0
other=system_u:system_r:other_t:s0
files=system_u:object_r:container_file_t:s0

setup() {
    prepare_bundles
    mount -t selinuxfs selinuxfs /sys/fs/selinux
    # The kernel takes a policy in one piece.
    dd if=/rtc/suites/selinux.policy of=/sys/fs/selinux/load bs=1M
    echo 1 > /sys/fs/selinux/enforce
}

# labelled NAME COMMAND: a container with labels of its own.
labelled() {
    start "$1" "$2" '.process.selinuxLabel = "'$label'" | .linux.mountLabel = "'$files'" | .linux.maskedPaths = []'
}

# label_of NAME: the label of its first process.
label_of() {
    tr -d '\0\n' < "/proc/$(rtc state "$1" | jq .pid)/attr/current"
}

# now NAME ARGUMENT...: the label of a program that is run in it.
now() {
    local name=$1
    shift
    rtc exec "$@" "$name" cat /proc/self/attr/current | tr -d '\0\n'
}

case_the_policy_is_enforced() {
    same 1 "$(cat /sys/fs/selinux/enforce)"
    same system_u:system_r:rtc_t:s0 "$(tr -d '\0\n' < /proc/self/attr/current)"
}

case_programs_have_their_label() {
    labelled process 'exec sleep 1000'
    same $label "$(label_of process)"
    same $label "$(now process)"
    same $other "$(now process --process-label $other)"
    finish process
    start without 'exec sleep 1000'
    same system_u:system_r:rtc_t:s0 "$(label_of without)"
    finish without
}

case_mounts_have_their_label() {
    labelled mounts 'exec sleep 1000'
    contains "$(rtc exec mounts grep ' /dev/shm ' /proc/mounts)" "context=$files"
    rtc exec mounts sh -c 'echo x > /dev/shm/x && cat /dev/shm/x'
    fails rtc exec mounts sh -c ': > /x'
    finish mounts
}

case_keys_have_the_containers_label() {
    labelled keys 'exec sleep 1000'
    contains "$(rtc exec keys cat /proc/keys)" _ses.keys.
    finish keys
}

case_a_restored_container_has_its_labels() {
    labelled kept 'i=0; while :; do i=$((i + 1)); echo "it $i" > /dev/shm/new; mv /dev/shm/new /dev/shm/count; sleep 0.3; done'
    until_true rtc exec kept cat /dev/shm/count
    rtc checkpoint --image-path /tmp/kept kept
    rtc restore -d -b /run/bundles/kept --image-path /tmp/kept kept > /dev/null 2>&1 < /dev/null
    same $label "$(label_of kept)"
    local before
    before=$(rtc exec kept cat /dev/shm/count)
    until_true sh -c "[ \"\$(rtc exec kept cat /dev/shm/count)\" != '$before' ]"
    fails rtc exec kept sh -c ': > /x'
    rtc delete --force kept
    rtc restore -d -b /run/bundles/kept --image-path /tmp/kept --lsm-profile selinux:$other kept > /dev/null 2>&1 < /dev/null
    same $other "$(label_of kept)"
    finish kept
}
