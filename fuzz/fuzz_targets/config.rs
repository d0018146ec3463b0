//! config.json: whatever it holds, it is taken or refused in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match rtc_runtime::spec::read(bytes) {
        Ok(spec) => {
            let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
            if let Some(Err(error)) = seccomp.map(rtc_runtime::seccomp::compile) {
                assert!(!error.to_string().is_empty());
            }
            // What is kept of it in the state directory is read again by later commands.
            let again = serde_json::to_vec(&spec).expect("a specification has a text");
            rtc_runtime::spec::read(&again).expect("what was valid stays valid");
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
