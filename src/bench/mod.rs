//! The load tester.

mod chart;
pub mod compare;
pub mod ensure;
pub mod html;
pub mod report;
pub mod stats;
pub mod terminal;
