//! The body of a file of records in flight.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    _ = tidegate::testing::hostile::in_flight(bytes);
});
