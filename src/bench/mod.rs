//! The load tester: runs thousands of virtual users from a script and measures what they receive.

pub mod compare;
pub mod ensure;
pub mod generator;
pub mod html;
pub mod report;
pub mod script;
pub mod stats;
pub mod terminal;

mod chart;
pub(crate) mod http;
mod meters;
mod netem;
mod redirects;
mod scrape;
pub(crate) mod target;
pub(crate) mod tls;
mod user;
mod websocket;
