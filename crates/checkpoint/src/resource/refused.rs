//! Files that can't be saved, and what their users can do about it.

/// Why a file can't be saved, and the remedy; none for a file that isn't known by its link.
///
/// `link` is what /proc/PID/fd shows.
pub fn refusal(link: &str) -> Option<(&'static str, &'static str)> {
    let matches = |(start, ..): &&Refusal| link.starts_with(start);
    REFUSALS.iter().find(matches).map(|(_, why, remedy)| (*why, *remedy))
}

type Refusal = (&'static str, &'static str, &'static str);

const CLOSE: &str = "let the program close it before the checkpoint";

/// How the link begins, why it can't be saved, what to do.
const REFUSALS: &[Refusal] = &[
    (
        "anon_inode:[io_uring]",
        "the rings and requests of io_uring are inside the kernel, which doesn't give them out",
        "deny io_uring_setup in the container's seccomp profile (programs then use epoll), or turn it off in the \
         program: UV_USE_IO_URING=0 for node, io_method=worker for PostgreSQL",
    ),
    (
        "anon_inode:[userfaultfd]",
        "which memory the program wanted to watch can't be asked",
        "let the program close it before the checkpoint (for QEMU and Java: without post-copy and without userfaultfd \
         collectors)",
    ),
    ("anon_inode:[perf_event]", "a performance counter belongs to this boot of this machine", CLOSE),
    ("anon_inode:[fanotify]", "fanotify marks on mounts and file systems can't be put back as they were", CLOSE),
    ("anon_inode:bpf-map", "a BPF map can be used by the kernel outside the container", CLOSE),
    ("anon_inode:bpf", "a BPF program belongs to this kernel", CLOSE),
    ("anon_inode:btf", "BPF type data belongs to this kernel", CLOSE),
    (
        "anon_inode:seccomp notify",
        "system calls of another task wait on it for an answer",
        "end the program that supervises others with seccomp notifications before the checkpoint",
    ),
    ("anon_inode:[landlock-ruleset]", "the rules in it can't be read", CLOSE),
    ("anon_inode:[fscontext]", "a file system is being set up with it", "try again when the mount has been made"),
    ("anon_inode:kvm", "a virtual machine has state in the hardware", "end the virtual machine before the checkpoint"),
    ("anon_inode:[vfio", "the device behind it has state that can't be read", CLOSE),
    ("anon_inode:[aio]", "requests of it are inside the kernel", CLOSE),
    ("anon_inode:dmabuf", "the device behind it has state that can't be read", CLOSE),
    ("/dmabuf:", "the device behind it has state that can't be read", CLOSE),
    ("anon_inode:sync_file", "the device behind it has state that can't be read", CLOSE),
    ("anon_inode:[secretmem]", "secret memory is hidden from everyone but the program", CLOSE),
    ("/secretmem", "secret memory is hidden from everyone but the program", CLOSE),
    ("anon_inode:", "the kernel has no way to tell what is in it", CLOSE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        assert!(refusal("anon_inode:[io_uring]").unwrap().1.contains("seccomp"));
        assert!(refusal("anon_inode:bpf-map").unwrap().0.contains("map"));
        assert!(refusal("anon_inode:bpf-prog").unwrap().0.contains("program"));
        assert_eq!(refusal("anon_inode:[new]").unwrap().1, CLOSE);
        assert_eq!(refusal("/dev/null"), None);
    }

    #[test]
    fn no_line_hides_another() {
        for (n, (start, ..)) in REFUSALS.iter().enumerate() {
            assert!(REFUSALS[..n].iter().all(|(earlier, ..)| !start.starts_with(earlier)), "{start}");
        }
    }
}
