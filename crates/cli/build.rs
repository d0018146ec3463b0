//! Has the linker put the code that commands execute side by side, in builds that are meant to be used.

#![forbid(unsafe_code)]

fn main() {
    println!("cargo:rerun-if-changed=order.ld");
    let release = std::env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    let intel = std::env::var_os("CARGO_CFG_TARGET_ARCH").is_some_and(|arch| arch == "x86_64");
    if release && intel {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{here}/order.ld");
    }
}
