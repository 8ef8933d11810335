//! The fuzz target `state`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linkbal_fuzz::state::run(data));
