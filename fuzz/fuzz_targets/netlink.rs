//! The fuzz target `netlink`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linkbal_fuzz::netlink::run(data));
