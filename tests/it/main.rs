//! The integration tests: one binary, one module per subject.

#[cfg(feature = "driver")]
mod driver;
mod net;
mod session;
mod tidy;
mod vectors;
