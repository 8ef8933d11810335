//! Build script: options for bpf-linker.

use std::env;

fn main() {
    // The crate is also checked as if for this machine, whose linker knows no such flag.
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf") {
        println!("cargo::rustc-link-arg-bins=--disable-expand-memcpy-in-order");
    }
}
