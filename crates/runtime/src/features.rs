//! What `rtc features` prints: the OCI features document (runtime-spec, features.md).

use serde_json::Value;

/// What this build of rtc can do, on this kernel.
pub fn features() -> Value {
    unimplemented!()
}
