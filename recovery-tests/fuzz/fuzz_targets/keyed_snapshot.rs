//! The body of a file of keyed state.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    _ = tidegate::testing::hostile::keyed_snapshot(bytes);
});
