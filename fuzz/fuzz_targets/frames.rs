//! What comes in on the shim's socket: frames of ttrpc, requests of containerd's task API.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rtc_shim::read_untrusted(bytes));
