//! The fuzz target `log`; built without a fuzzer, it replays the files given as arguments.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strandline_fuzz::log(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    strandline_fuzz::replay_arguments(strandline_fuzz::log)
}
