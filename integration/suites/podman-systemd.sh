# Podman where systemd is: its own cgroup driver, units made by quadlet, systemd as a container's init.
# guest: systemd
# seconds: 112

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
    same hello "$(podman exec web sh -c "$fetch")"
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

# What a container needs of the unit that starts it and of a slice, before a checkpoint and after.
case_cgroups_of_a_callers_choice() {
    systemd-run --quiet --scope --unit delegated -p Delegate=yes \
        podman run -d --name split --cgroups split --network none --memory 64m $image sh -c "$counter"
    start_counter placed --cgroup-parent machine-placed.slice --network none --memory 64m
    contains "$(of_process split)" /system.slice/delegated.scope/libpod-payload-
    contains "$(of_process placed)" /machine.slice/machine-placed.slice/libpod-
    same "67108864 0::/" "$(podman exec split sh -c 'cat /sys/fs/cgroup/memory.max /proc/self/cgroup | paste -sd" "')"
    local before placed
    before=$(podman exec split cat /count)
    placed=$(podman exec placed cat /count)
    podman container checkpoint split placed
    # Podman wants them back where they were, so the unit has to have that name again.
    until_true has_no_unit delegated.scope
    systemd-run --quiet --scope --unit delegated -p Delegate=yes podman container restore split
    podman container restore placed
    contains "$(of_process split)" /system.slice/delegated.scope/libpod-payload-
    contains "$(of_process placed)" /machine.slice/machine-placed.slice/libpod-
    counts_on split "$before"
    counts_on placed "$placed"
    same "67108864 67108864" "$(podman exec split cat /sys/fs/cgroup/memory.max) $(podman exec placed cat /sys/fs/cgroup/memory.max)"
    podman rm -f -t 0 split placed
    until_true has_no_unit delegated.scope
    systemctl stop machine-placed.slice
}

has_no_unit() {
    [ "$(systemctl show -P LoadState "$1")" = not-found ]
}

# of_process NAME: the cgroup of the first one.
of_process() {
    cat "/proc/$(field "$1" .State.Pid)/cgroup"
}

case_kubernetes_asks_whether_it_lives() {
    podman volume create kept
    cat > /tmp/alive.yaml << END
apiVersion: v1
kind: Pod
metadata: {name: alive}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: both, emptyDir: {}}
  - {name: kept, persistentVolumeClaim: {claimName: kept}}
  containers:
  - name: asked
    image: $image
    command: [sh, -c, "rm -f /sick; echo born >> /both/births; $idle"]
    livenessProbe: {exec: {command: [test, "!", -e, /sick]}, periodSeconds: 2, failureThreshold: 1}
    resources: {requests: {memory: 16Mi}, limits: {memory: 32Mi}}
    volumeMounts: [{name: both, mountPath: /both}, {name: kept, mountPath: /kept}]
  - name: looks
    image: $image
    command: [sh, -c, "$idle"]
    resources: {limits: {memory: 48Mi, cpu: 500m}}
    volumeMounts: [{name: both, mountPath: /seen, readOnly: true}]
END
    podman kube play --network none /tmp/alive.yaml
    podman exec alive-asked sh -euxc '
        [ "$(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.low | paste -sd" ")" = "33554432 16777216" ]
        echo kept > /kept/file
        touch /sick'
    # The probe fails, and podman starts it again.
    until_true podman exec alive-looks sh -c '[ "$(wc -l < /seen/births)" -ge 2 ]'
    until_true is_healthy alive-asked
    podman exec alive-looks sh -euxc '
        [ "$(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max | paste -sd" ")" = "50331648 50000 100000" ]
        ! touch /seen/new 2> /dev/null'
    same kept "$(podman exec alive-asked cat /kept/file)"
    podman kube down --force /tmp/alive.yaml
    same "" "$(podman ps -aq)"
    rm /tmp/alive.yaml
}

is_healthy() {
    [ "$(field "$1" .State.Health.Status)" = healthy ]
}
