//! The body of a file of operator state.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    _ = tidegate::testing::hostile::operator_state(bytes);
});
