//! What comes through a connection from another taskmanager.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    _ = tidegate::testing::hostile::data_frames(bytes);
});
