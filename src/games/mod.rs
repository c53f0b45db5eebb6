//! The games of the `rtcade` program. They use only the public interface of [`crate::game`].

pub mod arena;
pub mod broadcast;
mod relay;

pub use arena::Arena;
pub use broadcast::Broadcast;
pub use relay::Relay;
