//! The integration tests: one binary, one module per subject.

#![allow(clippy::unwrap_used, reason = "a test that unwraps what isn't there fails, as it should")]

use rtcade::game::{Game, Refusal, RoomInfo};
use rtcade::sim::Simulation;

#[cfg(feature = "driver")]
mod admin;
mod admission;
mod allocations;
#[cfg(feature = "driver")]
mod api;
#[cfg(all(feature = "driver", unix))]
mod bench;
#[cfg(all(feature = "driver", unix))]
mod bench_redirects;
#[cfg(feature = "driver")]
mod bench_report;
#[cfg(feature = "driver")]
mod bench_scripts;
#[cfg(all(feature = "driver", unix))]
mod bench_steps;
#[cfg(all(feature = "driver", unix))]
mod bench_tls;
#[cfg(feature = "driver")]
mod calls;
mod comeback;
mod congestion;
mod crowds;
mod deltas;
mod docs;
#[cfg(feature = "driver")]
mod doctor;
#[cfg(all(feature = "driver", unix))]
mod draining;
#[cfg(feature = "driver")]
mod driver;
mod endings;
mod external;
mod hooks;
#[cfg(feature = "driver")]
mod http;
mod journals;
mod late;
mod live_events;
mod lockstep;
mod model;
#[cfg(all(feature = "driver", target_os = "linux"))]
mod nat;
#[cfg(all(feature = "driver", unix))]
mod nginx;
#[cfg(all(feature = "driver", unix))]
mod operations;
#[cfg(all(feature = "cluster", target_os = "linux"))]
mod parent;
mod relays;
mod reproducible;
mod resume;
mod scenarios;
#[cfg(all(feature = "driver", feature = "script", unix))]
mod script_games;
mod session;
#[cfg(feature = "driver")]
mod stock;
#[cfg(feature = "driver")]
mod stun;
mod supervision;
mod tidy;
#[cfg(feature = "driver")]
mod tls;
#[cfg(feature = "typescript")]
mod types;
mod vectors;

/// A simulation of defaults. Where the environment names `RTCADE_SLOW_PATH`, every datagram goes through str0m, on both
/// ends: the same tests for the other way.
fn simulation<G: Game>(seed: u64, factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static) -> Simulation<G> {
    let mut sim = Simulation::new(seed, factory);
    if std::env::var_os("RTCADE_SLOW_PATH").is_some() {
        sim.take_slow_path();
    }
    sim
}
