# rtc's own shim under systemd: its cgroups by the path's form alone.
# guest: systemd

image=localhost/rtc-test:latest
runtime=io.containerd.rtc.v2

setup() {
    install_rtc
    systemctl start containerd
    ctr image import /usr/lib/rtc-images/test.tar
}

cleanup() {
    local name
    for name in $(ctr container ls -q); do
        ctr task delete --force "$name"
        ctr container delete "$name"
    done
}

ended() {
    [ -z "$(ctr task ls | grep "^$1 .*RUNNING")" ]
}

case_a_systemd_path_makes_a_scope() {
    ctr run --runtime $runtime -d --cgroup system.slice:ctr:scoped --memory-limit=67108864 $image scoped sleep 1000
    same active "$(systemctl is-active ctr-scoped.scope)"
    same 67108864 "$(systemctl show -P MemoryMax ctr-scoped.scope)"
    contains "$(cat "/proc/$(ctr task ls | awk '$1 == "scoped" { print $2 }')/cgroup")" /system.slice/ctr-scoped.scope
    contains "$(ctr task metrics scoped)" 67108864
    ctr task kill -s 9 scoped
    until_true ended scoped
    ctr task delete scoped || [ $? = 137 ]
    ctr container delete scoped
    until_true fails systemctl is-active ctr-scoped.scope
}
