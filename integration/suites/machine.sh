# The VM itself: that it is what the other suites take it for.

case_kernel_is_debians() {
    contains "$(uname -r)" cloud-amd64
}

case_all_controllers_are_handed_down() {
    local controllers
    controllers=$(cat /sys/fs/cgroup/cgroup.controllers)
    same "$controllers" "$(cat /sys/fs/cgroup/cgroup.subtree_control)"
    for controller in cpuset cpu io memory hugetlb pids rdma misc; do
        contains " $controllers " " $controller "
    done
}

case_nothing_but_rtc_is_at_hand() {
    local program
    for program in runc crun youki; do
        same "" "$(command -v $program || true)"
    done
    same 0 "$(find / -xdev -name criu -type f | wc -l)"
}

case_exit_status_and_output_come_through() {
    local status=0
    bash -c 'echo out; echo err >&2; kill -9 $$' > /tmp/out 2> /tmp/err || status=$?
    same 137 "$status"
    same out "$(cat /tmp/out)"
    same err "$(cat /tmp/err)"
}
