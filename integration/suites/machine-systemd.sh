# The guest with systemd: that it is what the other suites take it for.
# guest: systemd

case_systemd_is_up_and_no_unit_failed() {
    same running "$(systemctl is-system-running --wait)"
    same "" "$(systemctl --failed --no-legend)"
    contains "$(journalctl -b --no-pager)" "Linux version"
}

case_an_ordinary_user_has_a_manager_and_controllers() {
    loginctl enable-linger tester
    until_true systemctl is-active user@1000.service
    same active "$(runuser -u tester -- env XDG_RUNTIME_DIR=/run/user/1000 systemctl --user is-active default.target)"
    contains "$(cat /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers)" "memory pids"
    loginctl disable-linger tester
    until_true fails systemctl is-active user@1000.service
}
