//! The manifest of a checkpoint.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    _ = tidegate::testing::hostile::manifest(bytes);
});
