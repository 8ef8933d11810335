//! The fuzz target `recording`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linkbal_fuzz::recording::run(data));
