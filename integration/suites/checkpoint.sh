# Checkpoint and restore by rtc alone, on cgroup v2 with every controller.

. /rtc/suites/bundles.sh

# What is restored finds its restorer's vdso and stack elsewhere, as on other machines.
echo 2 > /proc/sys/kernel/randomize_va_space

case_checkpoint_and_restore_with_limits() {
    start saved "$counter" "$limits"
    until_true test -e /run/bundles/saved/rootfs/count
    rtc checkpoint --image-path /tmp/saved saved
    local before
    before=$(cat /run/bundles/saved/rootfs/count)
    fails rtc state saved
    [ ! -e /sys/fs/cgroup/bare/saved ]
    rtc restore -d --image-path /tmp/saved -b /run/bundles/saved saved
    same running "$(status saved)"
    counts_on saved "$before"
    same 67108864 "$(group saved memory.max)"
    same 33 "$(group saved pids.max)"
    same 1 "$(group saved cgroup.procs | grep -cx "$(rtc state saved | jq .pid)")"
    same 0::/ "$(rtc exec saved cat /proc/1/cgroup)"
    finish saved
    rm -r /tmp/saved
}

case_a_paused_container_is_saved_and_stays_paused() {
    start icy "$counter"
    until_true test -e /run/bundles/icy/rootfs/count
    rtc pause icy
    local before
    before=$(cat /run/bundles/icy/rootfs/count)
    rtc checkpoint --leave-running --image-path /tmp/icy icy
    same paused "$(status icy)"
    same "$before" "$(cat /run/bundles/icy/rootfs/count)"
    rtc resume icy
    counts_on icy "$before"
    rtc kill icy KILL
    until_true test "$(status icy)" = stopped
    rtc delete icy
    rtc restore -d --image-path /tmp/icy -b /run/bundles/icy icy
    counts_on icy "$before"
    finish icy
    rm -r /tmp/icy
}

case_a_process_of_exec_is_not_lost_silently() {
    start joined "$counter"
    until_true test -e /run/bundles/joined/rootfs/count
    rtc exec -d joined sleep 1000
    fails rtc checkpoint --image-path /tmp/joined joined 2> /tmp/err
    contains "$(cat /tmp/err)" "process sleep"
    same running "$(status joined)"
    pkill -xf 'sleep 1000'
    until_true rtc checkpoint --image-path /tmp/joined joined
    finish joined
    rm -r /tmp/joined
}

case_redis_under_a_memory_limit() {
    start store 'redis-server --save "" --appendonly yes --dir /data --enable-debug-command yes > /redis.log' \
        '.linux.resources.memory = {"limit": 134217728}'
    until_true rtc exec store redis-cli ping
    rtc exec store redis-cli debug populate 20000 key 1000
    rtc exec store redis-cli set answer 42
    rtc checkpoint --image-path /tmp/store store
    [ ! -e /sys/fs/cgroup/bare/store ]
    rtc restore -d --image-path /tmp/store -b /run/bundles/store store
    same 20001 "$(rtc exec store redis-cli dbsize)"
    same 42 "$(rtc exec store redis-cli get answer)"
    same 134217728 "$(group store memory.max)"
    finish store
    rm -r /tmp/store
}
