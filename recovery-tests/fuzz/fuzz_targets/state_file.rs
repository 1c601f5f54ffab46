//! The envelope of a state file, with its checksums made right.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    _ = tidegate::testing::hostile::state_file(bytes);
});
