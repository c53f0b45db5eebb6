//! The load tester: `rtcade bench`.

mod chart;
pub mod compare;
pub mod ensure;
pub mod html;
pub mod report;
pub mod script;
pub mod stats;
pub mod terminal;
