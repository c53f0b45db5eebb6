//! The games of the `rtcade` program. They use only the public interface of [`crate::game`].

pub mod arena;
mod relay;

pub use arena::Arena;
pub use relay::Relay;
