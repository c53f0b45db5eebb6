//! The load tester: `rtcade bench`.

pub mod script;
