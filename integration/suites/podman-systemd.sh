# Podman where systemd is: its own cgroup driver, units made by quadlet, systemd as a container's init.
# guest: systemd

image=localhost/rtc-test

setup() {
    install_rtc
    mkdir -p /etc/containers/containers.conf.d
    cp /rtc/contrib/podman/rtc.conf /etc/containers/containers.conf.d/
    podman load -q -i /usr/lib/rtc-images/test.tar
    same "rtc systemd" "$(podman info --format '{{.Host.OCIRuntime.Name}} {{.Host.CgroupManager}}')"
}

cleanup() {
    podman rm -fa -t 0
}

field() {
    podman container inspect --format "{{$2}}" "$1"
}

case_a_scope_holds_the_container() {
    podman run -d --name scoped --network none --memory 64m --memory-swap 64m --pids-limit 33 $image \
        sh -c 'i=0; while :; do i=$((i + 1)); echo $i > /count.new; mv /count.new /count; sleep 0.05; done'
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
    [ "$(podman exec scoped cat /count)" -ge "$before" ]
    same active "$(systemctl show -P ActiveState "$unit")"
    podman rm -f -t 0 scoped
    same not-found "$(systemctl show -P LoadState "$unit")"
}
