//! The load tester.

pub mod compare;
pub mod ensure;

pub mod report;
pub mod stats;
pub mod terminal;



