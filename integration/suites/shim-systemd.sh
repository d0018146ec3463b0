# rtc's own shim under systemd: its cgroups by the path's form alone.
# guest: systemd

. /rtc/suites/ctr.sh
how="--runtime io.containerd.rtc.v2"

setup() {
    install_rtc
    systemctl start containerd
    load_image
}

case_a_systemd_path_makes_a_scope() {
    run -d --cgroup=system.slice:ctr:scoped --memory-limit=67108864 scoped sleep 1000
    same active "$(systemctl is-active ctr-scoped.scope)"
    same 67108864 "$(systemctl show -P MemoryMax ctr-scoped.scope)"
    contains "$(cat "/proc/$(ctr task ls | awk '$1 == "scoped" { print $2 }')/cgroup")" /system.slice/ctr-scoped.scope
    contains "$(ctr task metrics scoped)" 67108864
    remove scoped
    until_true fails systemctl is-active ctr-scoped.scope
}
