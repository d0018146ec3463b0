//! The start of a static program, without glibc's survey of the CPU.
//!
//! Before `main`, glibc asks the CPU with some fifty `cpuid` what it can do and how large its caches are, to choose among
//! its string functions (sysdeps/x86/cpu-features.c). In a virtual machine each of these instructions is a way to the
//! hypervisor and back, 4 µs where this was written: 0.2 ms in all, a third of what a short command takes, for functions
//! that hardly run.
//! [`quick_start!`](crate::quick_start) takes the place of `__libc_start_main`. It does what that does, in the same order
//! (csu/libc-start.c, the case without SHARED), but for the survey: string functions are those that every x86-64 CPU has.
//!
//! The parts are glibc's own and not for others to call: crates/cli/build.rs enables this only for the versions of glibc
//! that were looked at. With any other, glibc's own start is linked.
//! Left out besides: destructors in ELF's arrays, of which Rust has none, tunables of the CPU, and what `dlopen`, setuid
//! programs and a `pthread_exit` of the first thread need.

use std::ffi::{c_char, c_int, c_long, c_ulong, c_void};

/// The type of a relocation whose value a function gives (x86-64 psABI, "Relocation Types").
const R_X86_64_IRELATIVE: u64 = 37;

/// Copies beyond this many bytes go past the caches: three quarters of what glibc takes for the size of a shared cache
/// that it knows nothing of (sysdeps/x86/cacheinfo.h).
const NON_TEMPORAL: c_long = 0xc_0000;

/// `Elf64_Rela`.
#[doc(hidden)]
#[repr(C)]
#[derive(Debug)]
pub struct Rela {
    offset: usize,
    info: u64,
    addend: usize,
}

type Initializer = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// What the program's entry passes to `__libc_start_main`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Entered {
    pub main: extern "C" fn(c_int, *const *const c_char, *const *const c_char) -> c_int,
    pub argc: c_int,
    pub argv: *const *const c_char,
    pub at_exit: Option<extern "C" fn()>,
    pub stack_end: *const c_void,
}

// SAFETY: these are glibc's declarations, the same in all versions that are asked for, and what the linker and crt1.o define.
unsafe extern "C" {
    static mut __environ: *const *const c_char;
    static mut __libc_stack_end: *const c_void;
    static _dl_random: *const [usize; 2];
    static mut __x86_shared_non_temporal_threshold: c_long;
    static mut __x86_rep_movsb_stop_threshold: c_long;
    /// From 2.41 on; in a program with an older glibc another name of one of the above.
    static mut __x86_memset_non_temporal_threshold: c_long;
    static __rela_iplt_start: [Rela; 0];
    static __rela_iplt_end: [Rela; 0];
    static __preinit_array_start: [Initializer; 0];
    static __preinit_array_end: [Initializer; 0];
    static __init_array_start: [Initializer; 0];
    static __init_array_end: [Initializer; 0];
    fn _dl_aux_init(auxv: *const c_ulong);
    fn __tunables_init(environment: *const *const c_char);
    fn __libc_setup_tls();
    fn __libc_early_init(initial: bool);
    fn __libc_init_first(argc: c_int, argv: *const *const c_char, environment: *const *const c_char);
    fn __cxa_atexit(function: extern "C" fn(), argument: *const c_void, object: *const c_void) -> c_int;
    fn _init();
}

/// Makes what libc needs ready, calls the constructors and the program's `main`, and exits with its status.
///
/// To be called by [`quick_start!`](crate::quick_start) alone. Compiled where it is called: no other program has all of
/// these symbols.
#[doc(hidden)]
#[inline]
pub fn start(entered: &Entered) -> ! {
    let Entered { main, argc, argv, at_exit, stack_end } = *entered;
    // SAFETY: the kernel puts the environment behind the arguments' closing null, and the auxiliary vector behind its own
    // (x86-64 psABI, "Process Initialization"). Nothing else runs yet, so nobody else uses what is written, and nothing is
    // called that needs what isn't there yet: before the relocations no string function, before the TLS no thread's data.
    unsafe {
        let environment = argv.add(argc as usize + 1);
        __environ = environment;
        __libc_stack_end = stack_end;
        let mut end = environment;
        while !(*end).is_null() {
            end = end.add(1);
        }
        _dl_aux_init(end.add(1).cast());
        __tunables_init(environment);
        __x86_shared_non_temporal_threshold = NON_TEMPORAL;
        __x86_rep_movsb_stop_threshold = NON_TEMPORAL;
        __x86_memset_non_temporal_threshold = NON_TEMPORAL;
        relocate(&raw const __rela_iplt_start, &raw const __rela_iplt_end);
        __libc_setup_tls();
        guard(_dl_random.read_unaligned());
        if let Some(at_exit) = at_exit {
            __cxa_atexit(at_exit, std::ptr::null(), std::ptr::null());
        }
        __libc_early_init(true);
        __libc_init_first(argc, argv, environment);
        construct(&raw const __preinit_array_start, &raw const __preinit_array_end, entered);
        _init();
        construct(&raw const __init_array_start, &raw const __init_array_end, entered);
        libc::exit(main(argc, argv, environment))
    }
}

/// Has the functions chosen that there are several of.
///
/// # Safety
/// `first` and `end` bound the program's relocations, which are applied for the first time.
#[inline]
unsafe fn relocate(first: *const [Rela; 0], end: *const [Rela; 0]) {
    let mut next = first.cast::<Rela>();
    while next < end.cast() {
        // SAFETY: within the table. Without position independence these are the only relocations (glibc, `apply_irel`),
        // and the addresses are those of a word to be written and of a function that gives it.
        unsafe {
            if (*next).info != R_X86_64_IRELATIVE {
                libc::abort();
            }
            let choose = std::mem::transmute::<usize, extern "C" fn() -> usize>((*next).addend);
            std::ptr::with_exposed_provenance_mut::<usize>((*next).offset).write(choose());
            next = next.add(1);
        }
    }
}

/// Sets the stack's canary and the word that pointers are mangled with, from the kernel's random bytes.
///
/// # Safety
/// The thread's block is there, and nothing has used them yet.
#[inline]
unsafe fn guard(random: [usize; 2]) {
    // A canary with a zero byte stops string functions (`_dl_setup_stack_chk_guard`).
    let canary = random[0] & !0xff;
    // SAFETY: `stack_guard` and `pointer_guard` of `tcbhead_t`, whose places are part of the ABI (gcc, "-mstack-protector").
    unsafe {
        std::arch::asm!(
            "mov fs:[0x28], {canary}",
            "mov fs:[0x30], {pointer}",
            canary = in(reg) canary,
            pointer = in(reg) random[1],
            options(nostack, preserves_flags)
        );
    }
}

/// Calls the constructors of an array.
///
/// # Safety
/// `first` and `end` bound it.
#[inline]
unsafe fn construct(first: *const [Initializer; 0], end: *const [Initializer; 0], entered: &Entered) {
    let mut next = first.cast::<Initializer>();
    while next < end.cast() {
        // SAFETY: within the array, whose functions are called with what `main` gets.
        unsafe {
            (*next)(entered.argc, entered.argv, __environ);
            next = next.add(1);
        }
    }
}

/// Makes [`start`] the program's `__libc_start_main`. For a binary whose build script knows this version of glibc and
/// has given `--wrap=__libc_start_main` to the linker.
#[macro_export]
macro_rules! quick_start {
    () => {
        /// Called by the program's entry, with the stack as execve has left it.
        // SAFETY: the name is the linker's for what takes the place of __libc_start_main, once in a program.
        #[unsafe(no_mangle)]
        pub extern "C" fn __wrap___libc_start_main(
            main: extern "C" fn(
                ::std::ffi::c_int,
                *const *const ::std::ffi::c_char,
                *const *const ::std::ffi::c_char,
            ) -> ::std::ffi::c_int,
            argc: ::std::ffi::c_int,
            argv: *const *const ::std::ffi::c_char,
            _init: *const ::std::ffi::c_void,
            _fini: *const ::std::ffi::c_void,
            at_exit: ::std::option::Option<extern "C" fn()>,
            stack_end: *const ::std::ffi::c_void,
        ) -> ! {
            $crate::start::start(&$crate::start::Entered { main, argc, argv, at_exit, stack_end })
        }
    };
}
