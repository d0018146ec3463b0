# What Linux 6.1 can't do, and that rtc says so.
# guest: debian12

. /rtc/suites/bundles.sh

case_the_kernel_is_the_older() {
    contains "$(uname -r)" 6.1.
}

case_check_names_what_is_missing() {
    local status=0
    rtc check > /tmp/out 2> /tmp/err || status=$?
    same 1 "$status"
    contains "$(cat /tmp/out)" "PAGEMAP_SCAN: missing: Linux 6.7 or newer is needed"
    contains "$(cat /tmp/out)" "cgroup v2: ok"
}

case_checkpoint_is_refused_and_harms_nothing() {
    start kept "$counter"
    until_true test -e /run/bundles/kept/rootfs/count
    local before
    before=$(cat /run/bundles/kept/rootfs/count)
    fails rtc checkpoint --image-path /tmp/kept kept 2> /tmp/err
    # The trace of `fails` is in it too.
    same 1 "$(grep -vc "^+" /tmp/err)"
    contains "$(cat /tmp/err)" "Linux 6.7"
    same running "$(status kept)"
    counts_on kept "$before"
    [ ! -e /tmp/kept/manifest.json ]
    finish kept
}
