//! The load tester: thousands of virtual users who do what a script says, and what they measure.

pub mod compare;
pub mod ensure;
pub mod generator;
pub mod html;
pub mod report;
pub mod script;
pub mod stats;
pub mod terminal;

mod chart;
mod http;
mod meters;
mod netem;
mod scrape;
mod target;
mod tls;
mod user;
mod websocket;
