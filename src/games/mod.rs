//! The games that ship: they use what any game can use, [`crate::game`], and nothing else.

pub mod arena;
mod relay;

pub use arena::Arena;
pub use relay::Relay;
