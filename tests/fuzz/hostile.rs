//! libFuzzer drives the target that the environment variable `TARGET` names.
#![no_main]

use std::sync::OnceLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rtcade::hostile::{TARGETS, Target};

static CHOSEN: OnceLock<(Target, Instant)> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("TARGET").unwrap_or_default();
        let chosen = TARGETS.iter().find(|(of, _)| *of == name);
        let (_, target) = chosen.unwrap_or_else(|| panic!("TARGET is {name:?}, not one of {TARGETS:?}"));
        CHOSEN.set((*target, Instant::now())).expect("it is chosen once");
    },
    |input: &[u8]| {
        let (target, now) = CHOSEN.get().expect("it was chosen first");
        target(*now, input);
    }
);
