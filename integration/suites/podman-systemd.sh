# Podman where systemd is: its own cgroup driver, units made by quadlet, systemd as a container's init.
# guest: systemd
# seconds: 50

. /rtc/suites/podman-common.sh

setup() {
    install_podman rtc.conf
    same "rtc systemd" "$(podman info --format '{{.Host.OCIRuntime.Name}} {{.Host.CgroupManager}}')"
}

case_a_scope_holds_the_container() {
    start_counter scoped --network none --memory 64m --memory-swap 64m --pids-limit 33
    local unit group before
    unit=libpod-$(field scoped .Id).scope
    group=/sys/fs/cgroup/machine.slice/$unit
    same 67108864 "$(systemctl show -P MemoryMax "$unit")"
    same "67108864 33" "$(podman exec scoped sh -c 'cd /sys/fs/cgroup && cat memory.max pids.max | paste -sd" "')"
    podman update --memory 96m --memory-swap 96m scoped
    same 100663296 "$(systemctl show -P MemoryMax "$unit")"
    same 100663296 "$(podman exec scoped cat /sys/fs/cgroup/memory.max)"
    before=$(podman exec scoped cat /count)
    podman container checkpoint scoped
    [ ! -e "$group" ]
    podman container restore scoped
    counts_on scoped "$before"
    same active "$(systemctl show -P ActiveState "$unit")"
    podman rm -f -t 0 scoped
    same not-found "$(systemctl show -P LoadState "$unit")"
}

case_a_quadlet_unit_is_a_service() {
    mkdir -p /etc/containers/systemd
    cat > /etc/containers/systemd/web.container << END
[Container]
Image=$image
ContainerName=web
Network=none
Exec=sh -c 'echo hello > index.html; exec httpd -f -p 80'
StopTimeout=0
PidsLimit=20

[Service]
Restart=always
TimeoutStopSec=120
END
    systemctl daemon-reload
    systemctl start web.service
    same hello "$(podman exec web wget -qO- http://127.0.0.1/index.html)"
    same 20 "$(podman exec web cat /sys/fs/cgroup/pids.max)"
    contains "$(cat "/proc/$(field web .State.Pid)/cgroup")" /system.slice/web.service
    local first
    first=$(field web .Id)
    podman kill web
    until_true restarted web "$first"
    systemctl stop web.service
    same "" "$(podman ps -aq)"
    rm /etc/containers/systemd/web.container
    systemctl daemon-reload
}

restarted() {
    [ "$(field "$1" .Id)" != "$2" ] && [ "$(field "$1" .State.Status)" = running ]
}

case_systemd_is_a_containers_init() {
    # The guest's own root, below a layer that is thrown away.
    podman run -d --name inner --systemd always --network none --rootfs /:O /lib/systemd/systemd \
        --unit basic.target systemd.show_status=no
    until_true podman exec inner systemctl is-active basic.target
    same systemd "$(podman exec inner cat /proc/1/comm)"
    podman exec inner systemd-run --quiet --unit short sleep 1000
    same active "$(podman exec inner systemctl is-active short.service)"
    contains "$(podman exec inner sh -c 'cat /proc/$(systemctl show -P MainPID short)/cgroup')" /system.slice/short.service
    podman stop -t 60 inner
    same "exited" "$(field inner .State.Status)"
    podman rm inner
}
