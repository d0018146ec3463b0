# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rtc_global_optspecs
    string join \n h/help debug log-level= log= log-format= root= systemd-cgroup cgroup-manager= rootless= criu= v/version
end

function __fish_rtc_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rtc_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rtc_using_subcommand
    set -l cmd (__fish_rtc_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rtc -n "__fish_rtc_needs_command" -l log-level -d 'The least important messages that are logged [default: info]' -r -f -a "error\t'What ends a command'
warning\t'What went wrong without ending it'
info\t'What happened'
debug\t'Everything; as `--debug`'"
complete -c rtc -n "__fish_rtc_needs_command" -l log -d 'Append log messages to a file, or send them to journald:ID or syslog:ID, instead of writing them to stderr' -r -F
complete -c rtc -n "__fish_rtc_needs_command" -l log-format -d 'Format of the log' -r -f -a "text\t'`time="…" level=error msg="…"`'
json\t'`{"level":"error","msg":"…","time":"…"}`'"
complete -c rtc -n "__fish_rtc_needs_command" -l root -d 'Directory that keeps the state of containers [default: /run/rtc, or $XDG_RUNTIME_DIR/rtc for other users than root]' -r -F
complete -c rtc -n "__fish_rtc_needs_command" -l cgroup-manager -d 'Who makes the cgroups [default: cgroupfs, or systemd with --systemd-cgroup]' -r -f -a "cgroupfs\t'Make cgroups as directories'
systemd\t'Ask systemd for a scope'
disabled\t'Leave the container in the caller\'s cgroup'"
complete -c rtc -n "__fish_rtc_needs_command" -l rootless -d 'Whether the caller is an ordinary user: the user\'s systemd, and no cgroup where none may be made' -r -f -a "true\t'Assume a caller without privilege'
false\t'Assume a caller with privilege'
auto\t'Look at the user and the user namespace'"
complete -c rtc -n "__fish_rtc_needs_command" -l criu -d 'Accepted and without effect: rtc needs no criu' -r -F
complete -c rtc -n "__fish_rtc_needs_command" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_needs_command" -l debug -d 'Write debug messages to the log'
complete -c rtc -n "__fish_rtc_needs_command" -l systemd-cgroup -d 'Let systemd make the cgroups: cgroupsPath is then slice:prefix:name'
complete -c rtc -n "__fish_rtc_needs_command" -s v -l version -d 'Print the version'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "check" -d 'check what this machine supports and what is missing'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "checkpoint" -d 'checkpoint a running container'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "create" -d 'create a container'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "delete" -d 'delete a container that has ended, and all that it held'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "events" -d 'print statistics of a container again and again, and kills for want of memory'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "exec" -d 'run another process in a container'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "features" -d 'print what this runtime supports, as JSON'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "install-shim" -d 'link this program as DIR/criu'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "kill" -d 'send a signal to a container\'s first process (default: SIGTERM)'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "list" -d 'list the containers of the root directory'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "mounts" -d 'add mounts to a running container, or remove them'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "pause" -d 'suspend all processes of a container'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "ps" -d 'list the processes of a container'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "restore" -d 'restore a container from a checkpoint'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "resume" -d 'let a paused container run on'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "run" -d 'create and run a container'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "spec" -d 'write a config.json to begin with'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "start" -d 'start a created container\'s program'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "state" -d 'print the state of a container, as JSON'
complete -c rtc -n "__fish_rtc_needs_command" -f -a "update" -d 'change the limits of a container'
complete -c rtc -n "__fish_rtc_using_subcommand check" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l image-path -d 'Directory of the image [default: ./checkpoint]' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l work-path -d 'Directory for the log and statistics [default: the image directory]' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l manage-cgroups-mode -d 'Accepted; the cgroup is that of config.json' -r -f -a "soft\t'For criu: cgroups that exist get no new properties'
full\t'For criu: cgroups must not exist yet'
strict\t'For criu: cgroups must exist'
ignore\t'What rtc does in any case'"
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l empty-ns -d 'Namespace whose contents to leave to others: network' -r
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l network-lock -d 'Accepted; where connections need a lock it is by nftables' -r
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l parent-path -d 'Earlier image, relative to the image directory; it must exist, but isn\'t needed' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l exec-timeout -d 'How many seconds to wait for the ends of processes that exec brought in [default: 5]' -r
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l status-fd -d 'Only with --lazy-pages' -r
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l page-server -d 'Not supported' -r
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l tcp-established -d 'Save and restore established TCP connections'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l tcp-close -d 'Not supported'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l ext-unix-sk -d 'Allow unix sockets whose other end is outside the container'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l shell-job -d 'Allow processes that belong to the caller\'s terminal'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l file-locks -d 'Accepted; file locks are always saved'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l lazy-pages -d 'Not supported'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l auto-dedup -d 'Accepted; there are no pages in parent images to drop'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l leave-running -d 'Let the container run on'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l check -d 'List what can\'t be saved, and do nothing else'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l tcp-skip-in-flight -d 'Leave connections that are being made out of the image'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l link-remap -d 'Accepted; deleted files are always saved'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l skip-exec -d 'Leave processes that exec brought in, and that don\'t end in time, out of the image'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -l pre-dump -d 'Save the container and let it run on: a checkpoint is complete by itself'
complete -c rtc -n "__fish_rtc_using_subcommand checkpoint" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand create" -s b -l bundle -d 'Directory with config.json [default: the current directory]' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand create" -s f -l config -d 'Another file than config.json in the bundle, relative to it' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand create" -l console-socket -d 'Socket that gets the master end of the container\'s terminal' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand create" -l pidfd-socket -d 'Socket that gets a file descriptor of the process (a pidfd)' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand create" -l pid-file -d 'File to write the process id to, as seen by the caller' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand create" -l preserve-fds -d 'Pass this many further file descriptors, from 3 up, to the container' -r
complete -c rtc -n "__fish_rtc_using_subcommand create" -l no-pivot -d 'Use chroot-like means where pivot_root can\'t work, as on a ramdisk'
complete -c rtc -n "__fish_rtc_using_subcommand create" -l no-new-keyring -d 'Leave the caller\'s session keyring to the container'
complete -c rtc -n "__fish_rtc_using_subcommand create" -l no-subreaper -d 'Accepted, as crun does: create adopts no processes'
complete -c rtc -n "__fish_rtc_using_subcommand create" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand delete" -s f -l force -d 'Kill the container first if it still runs; no error if it doesn\'t exist'
complete -c rtc -n "__fish_rtc_using_subcommand delete" -s r -l regex -d 'The name is a regular expression: delete every container that it matches'
complete -c rtc -n "__fish_rtc_using_subcommand delete" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand events" -l interval -d 'Time between two statistics, as 5s, 500ms or 1m' -r
complete -c rtc -n "__fish_rtc_using_subcommand events" -l stats -d 'Print statistics once and end'
complete -c rtc -n "__fish_rtc_using_subcommand events" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l console-socket -d 'Socket that gets the master end of the process\'s terminal' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l pidfd-socket -d 'Socket that gets a file descriptor of the process (a pidfd)' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l cwd -d 'Working directory in the container' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand exec" -s e -l env -d 'Set a variable; may be repeated' -r
complete -c rtc -n "__fish_rtc_using_subcommand exec" -s u -l user -d 'User id, and group id' -r
complete -c rtc -n "__fish_rtc_using_subcommand exec" -s g -l additional-gids -d 'Additional group ids; may be repeated' -r
complete -c rtc -n "__fish_rtc_using_subcommand exec" -s p -l process -d 'File with the specification\'s process object' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l pid-file -d 'File to write the process id to, as seen by the caller' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l process-label -d 'SELinux label of the process' -r
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l apparmor -d 'AppArmor profile of the process' -r
complete -c rtc -n "__fish_rtc_using_subcommand exec" -s c -l cap -d 'Add a capability; may be repeated' -r
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l preserve-fds -d 'Pass this many further file descriptors, from 3 up, to the process' -r
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l cgroup -d 'Cgroup below the container\'s to run the process in' -r
complete -c rtc -n "__fish_rtc_using_subcommand exec" -s t -l tty -d 'Give the process a terminal'
complete -c rtc -n "__fish_rtc_using_subcommand exec" -s d -l detach -d 'Return when the process runs'
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l no-new-privs -d 'Forbid the process to gain privilege'
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l ignore-paused -d 'In a paused container: wait for its resume'
complete -c rtc -n "__fish_rtc_using_subcommand exec" -l no-subreaper -d 'Accepted and without effect, as in crun'
complete -c rtc -n "__fish_rtc_using_subcommand exec" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand features" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand install-shim" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand kill" -s a -l all -d 'Send the signal to all processes of the container; no error if it has stopped'
complete -c rtc -n "__fish_rtc_using_subcommand kill" -s r -l regex -d 'The name is a regular expression: send it to every container that it matches'
complete -c rtc -n "__fish_rtc_using_subcommand kill" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand list" -s f -l format -d 'Table or JSON' -r -f -a "table\t'Columns with a header'
json\t'One line of JSON'"
complete -c rtc -n "__fish_rtc_using_subcommand list" -s q -l quiet -d 'Only the ids'
complete -c rtc -n "__fish_rtc_using_subcommand list" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand mounts" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand pause" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand ps" -s f -l format -d 'Table or JSON array of process ids' -r -f -a "table\t'Columns with a header'
json\t'One line of JSON'"
complete -c rtc -n "__fish_rtc_using_subcommand ps" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -s b -l bundle -d 'Directory with config.json [default: the current directory]' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand restore" -s f -l config -d 'Another file than config.json in the bundle, relative to it' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l console-socket -d 'Socket that gets the master end of the container\'s terminal' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l pidfd-socket -d 'Socket that gets a file descriptor of the process (a pidfd)' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l pid-file -d 'File to write the process id to, as seen by the caller' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l preserve-fds -d 'Pass this many further file descriptors, from 3 up, to the container' -r
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l image-path -d 'Directory of the image [default: ./checkpoint]' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l work-path -d 'Directory for the log and statistics [default: the image directory]' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l manage-cgroups-mode -d 'Accepted; the cgroup is that of config.json' -r -f -a "soft\t'For criu: cgroups that exist get no new properties'
full\t'For criu: cgroups must not exist yet'
strict\t'For criu: cgroups must exist'
ignore\t'What rtc does in any case'"
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l empty-ns -d 'Namespace whose contents to leave to others: network' -r
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l network-lock -d 'Accepted; where connections need a lock it is by nftables' -r
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l lsm-profile -d 'Security label for the processes instead of config.json\'s, as selinux:LABEL or apparmor:PROFILE' -r
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l lsm-mount-context -d 'SELinux context for mounts instead of config.json\'s' -r
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l no-pivot -d 'Use chroot-like means where pivot_root can\'t work, as on a ramdisk'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l no-new-keyring -d 'Leave the caller\'s session keyring to the container'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l tcp-established -d 'Save and restore established TCP connections'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l tcp-close -d 'Not supported'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l ext-unix-sk -d 'Allow unix sockets whose other end is outside the container'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l shell-job -d 'Allow processes that belong to the caller\'s terminal'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l file-locks -d 'Accepted; file locks are always saved'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l lazy-pages -d 'Not supported'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l auto-dedup -d 'Accepted; there are no pages in parent images to drop'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -s d -l detach -d 'Return when the container runs'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -l no-subreaper -d 'Don\'t adopt the container\'s orphaned processes'
complete -c rtc -n "__fish_rtc_using_subcommand restore" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand resume" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand run" -s b -l bundle -d 'Directory with config.json [default: the current directory]' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand run" -s f -l config -d 'Another file than config.json in the bundle, relative to it' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand run" -l console-socket -d 'Socket that gets the master end of the container\'s terminal' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand run" -l pidfd-socket -d 'Socket that gets a file descriptor of the process (a pidfd)' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand run" -l pid-file -d 'File to write the process id to, as seen by the caller' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand run" -l preserve-fds -d 'Pass this many further file descriptors, from 3 up, to the container' -r
complete -c rtc -n "__fish_rtc_using_subcommand run" -l no-pivot -d 'Use chroot-like means where pivot_root can\'t work, as on a ramdisk'
complete -c rtc -n "__fish_rtc_using_subcommand run" -l no-new-keyring -d 'Leave the caller\'s session keyring to the container'
complete -c rtc -n "__fish_rtc_using_subcommand run" -s d -l detach -d 'Return when the container runs'
complete -c rtc -n "__fish_rtc_using_subcommand run" -l keep -d 'Keep the container\'s state and cgroup after its end, until \'delete\''
complete -c rtc -n "__fish_rtc_using_subcommand run" -l no-subreaper -d 'Don\'t adopt the container\'s orphaned processes'
complete -c rtc -n "__fish_rtc_using_subcommand run" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand spec" -s b -l bundle -d 'Directory to write config.json to [default: the current directory]' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand spec" -s f -l config -d 'Another name than config.json' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand spec" -l rootless -d 'Write a configuration that a user without privilege can run'
complete -c rtc -n "__fish_rtc_using_subcommand spec" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand start" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand state" -s h -l help -d 'Print help'
complete -c rtc -n "__fish_rtc_using_subcommand update" -s r -l resources -d 'File with the new limits, or - for stdin; other flags are ignored then' -r -F
complete -c rtc -n "__fish_rtc_using_subcommand update" -l blkio-weight -d 'Weight of block I/O, 10 to 1000' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l cpu-period -d 'Length of a CPU period in microseconds' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l cpu-quota -d 'CPU time allowed in a period, in microseconds; -1 for no limit' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l cpu-burst -d 'CPU time that may be saved up for a burst, in microseconds' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l cpu-share -d 'CPU shares, relative to other containers' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l cpu-rt-period -d 'Length of a real-time CPU period in microseconds' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l cpu-rt-runtime -d 'Real-time CPU time allowed in a period, in microseconds' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l cpuset-cpus -d 'CPUs to use, as 0-3,7' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l cpuset-mems -d 'Memory nodes to use' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l cpu-idle -d 'Run only when nothing else wants the CPU: 0 or 1' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l memory -d 'Memory limit in bytes, with k, m, g, t; -1 for none' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l memory-reservation -d 'Memory below which nothing is reclaimed' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l memory-swap -d 'Limit of memory and swap together; -1 for none' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l kernel-memory -d 'Obsolete, ignored' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l kernel-memory-tcp -d 'Obsolete, ignored' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l pids-limit -d 'Most processes and threads; -1 for no limit' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l l3-cache-schema -d 'Intel RDT: limits of the L3 cache, as L3:0=ff;1=ff' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -l mem-bw-schema -d 'Intel RDT: limits of memory bandwidth, as MB:0=50;1=50' -r
complete -c rtc -n "__fish_rtc_using_subcommand update" -s h -l help -d 'Print help'
