//! process.json, as `exec --process` reads it, and the user of `exec --user`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = rtc_runtime::spec::read_process(bytes) {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(user) = text.parse::<rtc_runtime::User>() {
            // Nothing but digits makes a user (CVE-2026-30892).
            assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'), "{text:?} is {user:?}");
        }
    }
});
