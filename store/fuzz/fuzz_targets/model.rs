#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| store_fuzz::model::one_input(data));
