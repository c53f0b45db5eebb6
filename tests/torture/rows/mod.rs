//! The rows, and the table that they make.

mod crash;
mod joins;
mod nesting;
mod pings;
mod pongs;
mod rebinding;
mod tls;
mod victim;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use super::world::{Failure, Load, World, cores};

/// What a row has found.
pub(super) struct Found {
    pub(super) figure: String,
    pub(super) bound: String,
    pub(super) holds: bool,
}

/// An attack.
struct Row {
    name: &'static str,
    about: &'static str,
    run: fn(&World) -> Result<Found, Failure>,
}

const ROWS: &[Row] = &[
    Row { name: "quiet", about: "a room beside nothing: what this machine adds by itself", run: victim::quiet },
    Row { name: "crash", about: "full queues whose connections end before they are closed", run: crash::run },
    Row { name: "pings", about: "8,000 websockets ping and never read", run: pings::run },
    Row { name: "nesting", about: "inputs nested 10 to 17 deep in a relay room", run: nesting::run },
    Row { name: "victim-http-500", about: "500 connections pipeline requests and don't read", run: victim::http_500 },
    Row { name: "victim-http-1500", about: "1,500 connections do", run: victim::http_1500 },
    Row { name: "victim-relay", about: "192 players of one address relay 50 messages/s each", run: victim::relay },
    Row { name: "victim-fragments", about: "20 connections send empty fragments", run: victim::fragments },
    Row {
        name: "victim-refusals",
        about: "20 connections send requests of 16 KiB that can't be read",
        run: victim::refusals,
    },
    Row { name: "tls-flood", about: "one address begins TLS handshakes as fast as it can", run: tls::flood },
    Row { name: "tls-floods", about: "40 addresses do", run: tls::floods },
    Row { name: "tls-garbage", about: "half handshakes, plaintext, and what is no TLS", run: tls::garbage },
    Row { name: "tls-renegotiation", about: "20 connections ask for renegotiation", run: tls::renegotiation },
    Row { name: "joins", about: "40 addresses join 12 times a second each", run: joins::run },
    Row { name: "pongs", about: "30 players send unsolicited pongs and never read", run: pongs::run },
    Row { name: "rebinding", about: "a page whose name was rebound to the server", run: rebinding::run },
];

#[derive(Parser)]
#[command(about = "Attacks a server and says which bounds hold", disable_version_flag = true)]
struct Arguments {
    /// The server's program.
    #[arg(long, value_name = "FILE")]
    server: PathBuf,
    /// The rows to run, and what they need; all of them, if none is named.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// What seeds the clients.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub(super) fn main() -> ExitCode {
    let Arguments { server, only, seed } = Arguments::parse();
    if let Some(unknown) = only.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        eprintln!("torture: there is no row {unknown}, only {}", names.join(", "));
        return ExitCode::from(2);
    }
    let world = match World::enter(server, seed) {
        Ok(world) => world,
        Err(failure) => {
            eprintln!("torture: {failure}");
            return ExitCode::from(2);
        }
    };
    println!("seed {seed}, {} cores\n", cores());
    println!("| row | what happens | figure | bound | verdict | load of others |\n|---|---|---|---|---|---|");
    let selected = ROWS.iter().filter(|row| only.is_empty() || only.iter().any(|name| name == row.name));
    let missed = selected.filter(|row| !print(row, &world)).count();
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a row and prints its line. Whether its bound holds.
fn print(row: &Row, world: &World) -> bool {
    let begun = Instant::now();
    let load = Load::read();
    let found = (row.run)(world);
    let others = load.and_then(|load| load.others_since());
    let others = others.map_or_else(|failure| failure.to_string(), |share| format!("{:.0} %", 100.0 * share));
    eprintln!("{}: {} s", row.name, begun.elapsed().as_secs());
    let Row { name, about, .. } = row;
    match found {
        Ok(Found { figure, bound, holds }) => {
            let verdict = if holds { "holds" } else { "MISSED" };
            println!("| {name} | {about} | {figure} | {bound} | {verdict} | {others} |");
            holds
        }
        Err(failure) => {
            println!("| {name} | {about} | {failure} | | NOT RUN | {others} |");
            false
        }
    }
}
