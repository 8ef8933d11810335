//! The fuzz target `dns`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linkbal_fuzz::dns::run(data));
