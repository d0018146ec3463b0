//! Runs each program of the zoo in a container, saves it, sees it gone, brings it back and lets it check itself.

#![forbid(unsafe_code)]

use rtc_tests::container::After;
use rtc_tests::{Bundle, Container};
use std::path::Path;

/// Makes a test of each program.
/// Those under `not yet` wait for the named feature of the engine: that they fail is what is tested, so that the list
/// stays true.
macro_rules! zoo {
    (lives { $($name:ident),* $(,)? } $(not yet $why:literal { $($late:ident),* $(,)? })*) => {
        $(#[test] fn $name() { survives(stringify!($name)) })*
        $($(#[test] fn $late() { does_not_survive(stringify!($late), $why) })*)*

        #[test]
        fn every_program_of_the_zoo_has_a_test() {
            let listed = std::process::Command::new(ZOO).output().expect("the zoo runs");
            let listed = String::from_utf8(listed.stdout).expect("names are text");
            let mut listed: Vec<&str> = listed.lines().collect();
            let mut tested = vec![$(stringify!($name),)* $($(stringify!($late),)*)*];
            (listed.sort_unstable(), tested.sort_unstable());
            assert_eq!(listed, tested);
        }
    };
}

const ZOO: &str = env!("CARGO_BIN_EXE_rtc-zoo");

zoo! {
    lives {
        device_zero, shared_working_directory, terminal_session, wait_epoll, wait_signal, zombies,
        sse_registers, avx_registers, x87_and_mxcsr, running, eventfd, epoll, epoll_nested, epoll_duplicates,
        signalfd, inotify, pidfd, offsets, append, shared_description, descriptor_numbers, deleted_file,
        deleted_large_file, deleted_shared, linked_elsewhere, replaced_file, folders, path_only, devices, proc_files,
        credentials, capabilities, process_flags, limits, umask_nice_scheduling, chroot, seccomp_filter,
        seccomp_chain, seccomp_one_thread, layout, clocks, rseq, lock_flock, lock_posix, lock_open_description,
        anonymous, heap_and_stack, shared_anonymous, copy_on_write, private_file, shared_file, deleted_file_mapping,
        memfd, memory_flags, memory_name, pipes, pipe_half_closed, pipe_full, pipe_between_processes, pipe_packets,
        fifo, fifo_deleted, shared_descriptor_table, handlers, pending, pending_in_thread, altstack, inside_a_handler,
        unix_stream, unix_half_closed, unix_packets, unix_datagram, unix_listener, unix_abstract, unix_deleted,
        unix_descriptors, sysv_shared_memory, sysv_deleted_memory, sysv_partly_mapped, sysv_semaphores, sysv_messages, posix_messages,
        tcp, tcp_v6, tcp_data_on_its_way, tcp_half_closed, tcp_closed_by_peer, tcp_options, tcp_listeners, terminal,
        terminal_closed, threads, many_threads, thread_attributes, futex, robust_mutex, thread_exit, itimers,
        posix_timers, ticking_timer, timerfd, timerfd_expired, tmpfs, dev_shm, dev_links, process_tree,
        many_processes, orphan, zombie_with_children, sessions_and_groups, dead_leaders, stopped, exit_is_seen,
        exit_signal, pids_go_on, wait_nanosleep, wait_nanosleep_absolute, wait_poll, wait_poll_with_timeout,
        wait_ppoll_with_mask, wait_select, wait_futex_with_timeout, wait_read, wait_accept, wait_recv, wait_child,
        wait_suspended, wait_flock, wait_sleep_ends, netlink, udp, udp_queue,
        udp_queue_v6, udp_multicast, raw_socket, packet_socket, small_tree,
    }
    not yet "not yet: inotify events that nobody has read" { inotify_pending }
    not yet "not yet: data of connections that are not accepted yet" { tcp_backlog, unix_backlog }
    not yet "not yet: Landlock domains, which are refused" { landlock }
    not yet "not yet: the peer's credentials of a socket pair" { unix_options }
}

/// No file tells of a Landlock domain; it is found out, all the same, and the container runs on.
#[test]
fn landlock_is_noticed() {
    let container = started("landlock", "zoo-landlock-noticed");
    let image = container.folder("image");
    let words = ["checkpoint", "--image-path", image.to_str().expect("text")];
    let refused = container.command(&words);
    assert!(refused.stderr.contains("thread 1: it is in a Landlock domain"), "{refused:?}");
    assert_eq!(container.status().as_deref(), Some("running"));
    ask(&container, "after a refused checkpoint");
}

/// Asks the program to check itself.
#[track_caller]
fn ask(container: &Container, when: &str) {
    let result = container.ctl().join("result");
    let _ = std::fs::remove_file(&result); // None before the first question.
    rtc_tests::session::send(&container.ctl().join("go"), "?");
    let verdict = container.wait_for("result", "\n");
    assert_eq!(verdict.trim(), "ok", "{when}");
}

/// A program whose feature is missing: it is refused, or it finds something lost.
#[track_caller]
fn does_not_survive(name: &str, why: &str) {
    let lives = std::panic::catch_unwind(|| survives(name)).is_ok();
    assert!(!lives, "{name} lives through checkpoints: it is no longer \"{why}\"");
    println!("{name} is lost, as known: {why}");
}

/// A container that runs a program of the zoo, which has prepared itself.
#[track_caller]
fn started(name: &str, container: &str) -> Container {
    let container = Container::run(container, |folder| {
        let ctl = folder.with_file_name("ctl");
        rtc_tests::session::make_fifo(&ctl.join("go"));
        Bundle::empty(folder).file(Path::new(ZOO), "/zoo").args(&["/zoo", name])
    });
    container.wait_for("ready", "ready");
    container
}

#[track_caller]
fn survives(name: &str) {
    let mut container = started(name, &format!("zoo-{name}"));
    // Fails here where the program itself is at fault.
    ask(&container, "before any checkpoint");
    // For work on the zoo itself, with a runtime that saves nothing.
    if std::env::var_os("ZOO_WITHOUT_CHECKPOINT").is_some() {
        ask(&container, "a second time");
        return;
    }
    for round in ["after the first restore", "after the second restore"] {
        let image = container.checkpoint(After::Gone);
        container.restore(&image);
        ask(&container, round);
    }
    // What runs on may change files, which an image doesn't hold: so this one is restored before anything is asked.
    let image = container.checkpoint(After::Running);
    container.delete();
    container.restore(&image);
    ask(&container, "restored from a checkpoint that left it running");
    container.checkpoint(After::Running);
    ask(&container, "after a checkpoint that leaves it running");
}
