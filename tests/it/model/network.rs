//! Network faults, and datagrams of unknown senders.

use std::net::SocketAddr;
use std::time::Duration;

use rtcade::endpoint::LocalId;
use rtcade::rand::{Rng, RngExt};
use rtcade::server::Counters;
use rtcade::sim::{Node, Path, RateLimit};

use super::player::Place;
use super::world::World;

/// Where datagrams of no client come from.
const ELSEWHERE: [u8; 4] = [198, 51, 100, 7];

/// What a player's network does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weather {
    Sound,
    Lossy {
        permille: u16,
    },
    Jittery {
        ms: u64,
    },
    Narrow {
        bytes_per_s: u64,
    },
    Awful,
    Blackout {
        ms: u64,
    },
    Bursty {
        permille: u16,
        longest: u16,
    },
    Duplicating {
        permille: u16,
    },
    Reordering {
        permille: u16,
        by_ms: u64,
    },
    Rebinding {
        every_ms: u64,
    },
    NoUdp,
    /// No datagram reaches the player.
    DownLost,
    /// No datagram reaches the server.
    UpLost,
    Mtu(usize),
}

/// What is in a datagram of nobody's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Garbage {
    /// Neither STUN nor DTLS; RTP, which nobody has offered, is among it.
    Unknown,
    /// As STUN begins.
    Stun,
    /// A DTLS record of some epoch.
    Dtls,
}

impl Weather {
    pub(super) fn draw(rng: &mut impl Rng) -> Weather {
        match rng.random_range(0..19) {
            0..=2 => Weather::Sound,
            3 | 4 => Weather::Lossy { permille: [20, 100, 300][rng.random_range(0..3)] },
            5 | 6 => Weather::Jittery { ms: rng.random_range(5..200) },
            7 => Weather::Narrow { bytes_per_s: rng.random_range(4_000..50_000) },
            8 => Weather::Awful,
            9 => Weather::Blackout { ms: [200, 1_000, 6_000, 60_000][rng.random_range(0..4)] },
            10 => Weather::Bursty { permille: rng.random_range(5..100), longest: rng.random_range(2..12) },
            11 => Weather::Duplicating { permille: [20, 300, 1_000][rng.random_range(0..3)] },
            12 => Weather::Reordering { permille: rng.random_range(10..500), by_ms: rng.random_range(5..200) },
            13 => Weather::Rebinding { every_ms: [300, 2_000, 10_000][rng.random_range(0..3)] },
            14 => Weather::NoUdp,
            15 | 16 => Weather::DownLost,
            17 => Weather::UpLost,
            _ => Weather::Mtu(rng.random_range(200..1_200)),
        }
    }

    /// The path of this weather from `now` on.
    pub(super) fn path(self, now: Duration, one_way: Duration) -> Path {
        let path = Path::new(one_way);
        match self {
            Weather::Sound => path,
            Weather::Lossy { permille } => path.with(&Node::Loss { permille }),
            Weather::Jittery { ms } => path.with(&Node::Jitter(Duration::from_millis(ms))),
            Weather::Narrow { bytes_per_s } => path.with(&Node::RateLimit(RateLimit::new(bytes_per_s, 6_000))),
            Weather::Awful => path.with(&Node::Jitter(one_way * 3)).with(&Node::Loss { permille: 400 }),
            Weather::Blackout { ms } => path.with(&Node::Blackout(now..now + Duration::from_millis(ms))),
            Weather::Bursty { permille, longest } => path.with(&Node::BurstLoss { permille, longest }),
            Weather::Duplicating { permille } => path.with(&Node::Duplicate { permille }),
            Weather::Reordering { permille, by_ms } => {
                path.with(&Node::Reorder { permille, by: Duration::from_millis(by_ms) })
            }
            Weather::Rebinding { every_ms } => path.with(&Node::Rebinding(Duration::from_millis(every_ms))),
            Weather::NoUdp => path.with(&Node::NoUdp),
            Weather::DownLost => Path { down: vec![Node::NoUdp, Node::Latency(one_way)], ..path },
            Weather::UpLost => Path { up: vec![Node::NoUdp, Node::Latency(one_way)], ..path },
            Weather::Mtu(bytes) => path.with(&Node::Mtu(bytes)),
        }
    }
}

impl Garbage {
    pub(super) fn datagram(self, rng: &mut impl Rng) -> Vec<u8> {
        let mut bytes = vec![0; rng.random_range(1..200)];
        rng.fill_bytes(&mut bytes);
        match self {
            Garbage::Unknown => bytes[0] = [4, 19, 64, 128, 255][rng.random_range(0..5)],
            Garbage::Stun => {
                let head = [0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42];
                bytes.splice(..bytes.len().min(8), head);
            }
            Garbage::Dtls => {
                let kind = rng.random_range(20..=26);
                let epoch = rng.random_range(0..=1);
                let length = u8::try_from(bytes.len()).unwrap();
                let head = [kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, rng.random_range(0..=255), 0, length];
                bytes.splice(..0, head);
            }
        }
        bytes
    }
}

impl World {
    pub(super) fn set_weather(&mut self, player: usize, weather: Weather) {
        let (now, one_way) = (self.sim.elapsed(), self.players[player].one_way);
        self.players[player].weather = weather;
        if let Place::Simulation(id) = self.players[player].place {
            self.sim.set_path(id, weather.path(now, one_way));
        }
    }

    /// Of the server's addresses a player reaches this one alone, or all.
    pub(super) fn reach(&mut self, player: usize, server: Option<u16>) {
        if let Place::Simulation(id) = self.players[player].place
            && self.has_two_addresses
        {
            self.players[player].reaches = server;
            for local in 0..2 {
                self.sim.set_reachable(id, LocalId(local), server.is_none_or(|server| server == local));
            }
        }
    }

    /// The last connectivity check of a player comes again from elsewhere, once a second.
    pub(super) fn replay_check(&mut self, player: usize, times: u32) {
        let Place::Simulation(id) = self.players[player].place else { return };
        let Some((local, check)) = self.sim[id].last_check() else { return };
        let check = check.to_owned();
        for _ in 0..times {
            let source = SocketAddr::from((ELSEWHERE, self.rng.random_range(1..=65_535)));
            self.sim.server.handle_datagram(self.sim.now(), self.sim.now(), local, source, &check);
            self.injected_bytes += check.len() as u64;
            self.run(Duration::from_secs(1));
        }
    }

    /// A datagram that no client has sent.
    pub(super) fn inject(&mut self, forged: Option<usize>, bytes: &[u8]) {
        let forged = forged.and_then(|player| match self.players[player].place {
            Place::Simulation(id) => Some(self.sim[id].address()),
            Place::Reader(_) => None,
        });
        let unroutable = |counters: Counters| {
            let kinds = counters.unroutable;
            kinds.unknown + kinds.stun + kinds.dtls + kinds.media
        };
        self.injected_bytes += if forged.is_none() { bytes.len() as u64 } else { 0 };
        let before = unroutable(self.sim.server.counters());
        let source = forged.unwrap_or(SocketAddr::from((ELSEWHERE, self.rng.random_range(1..=65_535))));
        self.sim.server.handle_datagram(self.sim.now(), self.sim.now(), LocalId(0), source, bytes);
        let counted = unroutable(self.sim.server.counters()) - before;
        if forged.is_none() && counted != 1 {
            self.fault(&format!("one datagram from nowhere was counted {counted} times: {bytes:?}"));
        }
    }
}
