//! Named networks, and measurements of a game over them.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{ClientId, Node, Path, SimulatedClient, Simulation};
use crate::client::Event;
use crate::game::{Game, Refusal, RoomInfo};
use crate::limits;

const ROOM: &str = "scenario";
/// Players join over the scenario's network and play this long before measuring starts.
const WARM_UP: Duration = Duration::from_secs(10);
/// Messages in transit at the end of the measurement count if they arrive within this time.
const WIND_DOWN: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(limits::TICK_MS as u64);

/// A named network, the same for every player. Players share no queue.
///
/// ```
/// use rtcade::games::{Arena, arena::Steer};
/// use rtcade::sim::{Node, Scenario, Trial};
/// use std::time::Duration;
///
/// let train = Scenario {
///     name: "train".to_owned(),
///     rtt: Duration::from_millis(80),
///     up: vec![Node::Jitter(Duration::from_millis(30))],
///     down: vec![Node::BurstLoss { permille: 5, longest: 10 }, Node::Jitter(Duration::from_millis(30))],
/// };
/// let trial = Trial { seed: 1, clients: 4, time: Duration::from_secs(10) };
/// let bot = |number: usize, _: &_| Steer(if number % 2 == 0 { 100.0 } else { -100.0 }, 0.0, false);
/// let report = train.play(&trial, |room| Ok(Arena::new(room)), bot);
/// println!("{report}");
/// assert!(report.seen as f64 > 0.9 * report.ticks as f64, "bursts take some three in a hundred");
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The scenario's name.
    pub name: String,
    /// The round-trip time, in addition to the delays of the nodes.
    pub rtt: Duration,
    /// The nodes that packets from a player pass, before half of the round-trip time.
    pub up: Vec<Node>,
    /// The nodes that packets to a player pass, before half of the round-trip time.
    pub down: Vec<Node>,
}

/// The parameters of a game played over a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The seed; the same seed gives the same report.
    pub seed: u64,
    /// The number of players, all in one room; at most [`limits::PLAYERS_PER_ROOM_MAX`].
    pub clients: usize,
    /// The virtual time that is measured, after 10 seconds in which players join.
    pub time: Duration,
}

/// What players received of a game over a scenario. Its `Display`, like that of [`Reports`], is a table.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The number of players.
    pub clients: usize,
    /// The players whose data channel was open at the end.
    pub open: usize,
    /// Ticks of the room times players: the states seen if every tick sent one and all arrived.
    pub ticks: u64,
    /// Ticks whose state, or fanned-out inputs, a player saw.
    pub seen: u64,
    /// States that arrived after a newer one and were therefore not shown.
    pub late: u64,
    /// Age of the states seen, from their tick to their arrival, in milliseconds: the median, 99th and 99.9th
    /// percentile. `None` if nothing was seen.
    pub age_ms: Option<[f64; 3]>,
    /// Bytes per second from each player over data channel and websocket, including IP, UDP and TCP headers.
    pub up_bytes_per_s: f64,
    /// Bytes per second to each player, counted in the same way.
    pub down_bytes_per_s: f64,
}

impl Scenario {
    /// Returns a path over this network that shares nothing with others. Blackouts are relative to `start`.
    #[must_use]
    pub fn path(&self, start: Duration) -> Path {
        let one_way = |nodes: &[Node]| {
            let nodes = nodes.iter().map(|node| node.afresh(start));
            nodes.chain([Node::Latency(self.rtt / 2)]).collect()
        };
        Path { up: one_way(&self.up), down: one_way(&self.down) }
    }

    /// Plays a game over this network. `factory` makes the game of the room. `bot` returns the input that a player
    /// sends in each tick, given the player's index and what the player has received. Blackouts are relative to the
    /// start of measuring.
    ///
    /// # Panics
    /// An input of `bot` can't be sent, `trial` has no players or too many, or a direction has more than 15 nodes.
    pub fn play<G: Game, I: Serialize>(
        &self,
        trial: &Trial,
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
        mut bot: impl FnMut(usize, &SimulatedClient) -> I,
    ) -> Report {
        let &Trial { seed, clients, time } = trial;
        assert!((1..=limits::PLAYERS_PER_ROOM_MAX).contains(&clients), "a room of {clients} players");
        let mut sim = Simulation::with_config(seed, |config| config.max_players = clients, factory);
        let scenario = self.clone();
        sim.set_paths(move || scenario.path(WARM_UP));
        let ids: Vec<ClientId> = (0..clients).map(|number| sim.join(ROOM, &format!("bot {number}"))).collect();
        // The room's ticks start at the last multiple of a tick before the room was made.
        while sim.game(ROOM).is_none() && sim.elapsed() < WARM_UP {
            let next = sim.next_event().map_or(WARM_UP, |at| at - sim.now());
            sim.run(next);
        }
        let made = sim.elapsed();
        let first_tick = made - Duration::from_nanos(nanos(made) % nanos(TICK));
        let mut play = |sim: &mut Simulation<G>, until: Duration| {
            let mut turns = (0..clients).cycle();
            let interval = TICK / u32::try_from(clients).expect("there are fewer");
            sim.run_every(interval, until.saturating_sub(sim.elapsed()), |sim| {
                let Some(number) = turns.next() else { return };
                let input = bot(number, &sim[ids[number]]);
                sim.send(ids[number], &input);
            });
        };
        let end = WARM_UP + time;
        play(&mut sim, WARM_UP);
        let before = Totals::of(&sim);
        play(&mut sim, end);
        let after = Totals::of(&sim);
        play(&mut sim, end + WIND_DOWN);

        let tick_at = |tick: u32| first_tick + TICK * tick;
        let said = |at: Duration| (WARM_UP..end).contains(&at);
        let events = ids.iter().flat_map(|&id| &sim[id].events);
        let mut ages: Vec<Duration> = events
            .filter_map(|(at, event)| match event {
                Event::State { tick, .. } | Event::Tick { tick, .. } => {
                    Some(tick_at(*tick)).filter(|&made| said(made)).map(|made| *at - made)
                }
                _ => None,
            })
            .collect();
        ages.sort_unstable();
        let exceeded_by_one_in = |many: usize| ages[ages.len() - ages.len().div_ceil(many)].as_secs_f64() * 1_000.0;
        let ticks = (0..).map(tick_at).skip_while(|&at| at < WARM_UP).take_while(|&at| at < end).count();
        let per_second = |bytes: u64| bytes as f64 / clients as f64 / time.as_secs_f64();
        Report {
            scenario: self.name.clone(),
            clients,
            open: ids.iter().filter(|&&id| sim[id].client.is_open()).count(),
            ticks: (ticks * clients) as u64,
            seen: ages.len() as u64,
            late: after.late - before.late,
            age_ms: (!ages.is_empty()).then(|| [2, 100, 1_000].map(exceeded_by_one_in)),
            up_bytes_per_s: per_second(after.up - before.up),
            down_bytes_per_s: per_second(after.down - before.down),
        }
    }
}

/// Counters of all clients.
struct Totals {
    up: u64,
    down: u64,
    late: u64,
}

impl Totals {
    fn of<G: Game>(sim: &Simulation<G>) -> Totals {
        let sum = |count: fn(&SimulatedClient) -> u64| sim.clients.iter().map(count).sum();
        Totals {
            up: sum(|client| client.up().sent_bytes + client.websocket_up().sent_bytes),
            down: sum(|client| client.down().sent_bytes + client.websocket_down().sent_bytes),
            late: sum(|client| client.client.stats().stale_states),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("less than 500 years")
}

/// Reports of several scenarios. Its `Display` is a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reports(pub Vec<Report>);

impl FromIterator<Report> for Reports {
    fn from_iter<T: IntoIterator<Item = Report>>(reports: T) -> Reports {
        Reports(reports.into_iter().collect())
    }
}

const HEADINGS: [&str; 9] =
    ["scenario", "channels", "seen", "late", "p50 ms", "p99 ms", "p99.9 ms", "up B/s", "down B/s"];

impl Report {
    fn cells(&self) -> [String; HEADINGS.len()] {
        let share = |count: u64| format!("{:.1} %", 100.0 * count as f64 / self.ticks.max(1) as f64);
        let [p50, p99, p999] =
            self.age_ms.map_or_else(|| ["-"; 3].map(str::to_owned), |ages| ages.map(|age| format!("{age:.0}")));
        [
            self.scenario.clone(),
            format!("{} of {}", self.open, self.clients),
            share(self.seen),
            share(self.late),
            p50,
            p99,
            p999,
            format!("{:.0}", self.up_bytes_per_s),
            format!("{:.0}", self.down_bytes_per_s),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_table(std::slice::from_ref(self), f)
    }
}

impl fmt::Display for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_table(&self.0, f)
    }
}

/// Writes a Markdown table.
fn write_table(reports: &[Report], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let rows: Vec<_> = std::iter::once(HEADINGS.map(str::to_owned)).chain(reports.iter().map(Report::cells)).collect();
    let widths: [usize; HEADINGS.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    for (number, row) in rows.iter().enumerate() {
        write!(f, "| {:<1$} |", row[0], widths[0])?;
        for (cell, width) in row.iter().zip(widths).skip(1) {
            write!(f, " {cell:>width$} |")?;
        }
        writeln!(f)?;
        if number == 0 {
            write!(f, "|{}|", "-".repeat(widths[0] + 2))?;
            for width in &widths[1..] {
                write!(f, "{}:|", "-".repeat(width + 1))?;
            }
            writeln!(f)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_table_whose_columns_stand_under_each_other() {
        let report = Report {
            scenario: "lan".to_owned(),
            clients: 8,
            open: 8,
            ticks: 1_000,
            seen: 987,
            late: 4,
            age_ms: Some([1.2, 3.4, 12.6]),
            up_bytes_per_s: 1_234.4,
            down_bytes_per_s: 5.0,
        };
        let nothing = Report { scenario: "a void".to_owned(), seen: 0, age_ms: None, ..report.clone() };
        assert_eq!(
            Reports(vec![report, nothing]).to_string(),
            "\
| scenario | channels |   seen |  late | p50 ms | p99 ms | p99.9 ms | up B/s | down B/s |
|----------|---------:|-------:|------:|-------:|-------:|---------:|-------:|---------:|
| lan      |   8 of 8 | 98.7 % | 0.4 % |      1 |      3 |       13 |   1234 |        5 |
| a void   |   8 of 8 |  0.0 % | 0.4 % |      - |      - |        - |   1234 |        5 |
"
        );
    }

    #[test]
    fn players_of_a_scenario_share_no_queue() {
        let limit = Node::RateLimit(crate::sim::RateLimit::new(1_000, 1_000));
        let scenario =
            Scenario { name: "narrow".to_owned(), rtt: Duration::ZERO, up: vec![limit.clone()], down: vec![limit] };
        let [one, other] = [(); 2].map(|()| scenario.path(Duration::ZERO));
        for node in [&one.up[0], &one.down[0], &other.up[0]] {
            let Node::RateLimit(limit) = node else { panic!("{node:?}") };
            assert_eq!(limit.pass(Duration::ZERO, 1_000), Some(Duration::from_secs(1)), "its queue was empty");
        }
    }
}
