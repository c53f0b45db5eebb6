//! The load tester: `rtcade bench`.

pub mod ensure;
pub mod script;
pub mod stats;
