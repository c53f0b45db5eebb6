//! x
pub mod client;
pub mod endpoint;
pub mod game;
pub mod limits;
mod peer;
mod player;
pub mod room;
pub mod server;
pub mod wire;

pub use rand;
