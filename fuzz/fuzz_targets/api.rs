//! The fuzz target `api`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linkbal_fuzz::api::run(data));
