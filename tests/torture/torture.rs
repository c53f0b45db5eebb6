//! Attacks the server's program over real sockets, one row for each attack, and compares what comes of it with a bound.
//! `scripts/torture` builds both and runs this.
//!
//! All of it happens in a network namespace of its own, in which attackers and players have as many addresses as they
//! need: loopback is exempt from the server's limits per address. The server has one core to itself as far as the
//! machine allows; attackers and players share the others.
//!
//! A new row is a function of the [`World`](world::World) and an entry in [`rows::ROWS`].

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

#[cfg(target_os = "linux")]
mod attack;
#[cfg(target_os = "linux")]
mod player;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod tls;
#[cfg(target_os = "linux")]
mod world;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    rows::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("torture: it takes Linux and its network namespaces");
    std::process::exit(2);
}
