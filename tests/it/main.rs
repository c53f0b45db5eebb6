//! The integration tests: one binary, one module per subject.

mod net;
mod session;
mod tidy;
mod vectors;
