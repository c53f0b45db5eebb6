//! The integration tests: one binary, one module per subject.

#![allow(clippy::unwrap_used, reason = "a test that unwraps what isn't there fails, as it should")]

#[cfg(feature = "driver")]
mod driver;
mod late;
mod readme;
mod session;
mod tidy;
mod vectors;
