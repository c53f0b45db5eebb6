//! Scenarios in YAML: the built-in ones and a user's own.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::crossing::DRAWS;
use super::path::{Node, RateLimit};
use super::scenario::Scenario;
use crate::yaml::{sentence, unknown};

const SHIPPED: &str = include_str!("scenarios.yml");
/// Maximum bytes of a scenario file.
const FILE_BYTES: usize = 256 * 1024;

/// An error in a scenario file and its place, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError(String);

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Returns the built-in scenarios, defined in `src/sim/scenarios.yml`.
    #[must_use]
    pub fn shipped() -> Vec<Scenario> {
        Scenario::parse(SHIPPED).expect("what is shipped was tested")
    }

    /// Reads scenarios from YAML. `src/sim/scenarios.yml` is an example and explains the format.
    ///
    /// # Errors
    /// The text is not valid YAML, or a key or value is unknown, missing or out of range. The error names line and
    /// column, and the most similar known name.
    pub fn parse(yaml: &str) -> Result<Vec<Scenario>, ScenarioError> {
        if yaml.len() > FILE_BYTES {
            return Err(ScenarioError(format!("it has {} bytes; the limit is {FILE_BYTES}", yaml.len())));
        }
        let entries: Vec<Entry> =
            serde_saphyr::from_str(yaml).map_err(|error| ScenarioError(sentence(&error, "node")))?;
        let mut scenarios: Vec<Scenario> = Vec::with_capacity(entries.len());
        for entry in entries {
            let scenario = entry.into_scenario()?;
            if scenarios.iter().any(|other| other.name == scenario.name) {
                return Err(ScenarioError(format!("the name {:?} is used twice", scenario.name)));
            }
            scenarios.push(scenario);
        }
        if scenarios.is_empty() {
            return Err(ScenarioError("it contains no scenario".to_owned()));
        }
        Ok(scenarios)
    }

    /// Returns the scenario called `name`.
    ///
    /// # Errors
    /// There is none. The error names the most similar name and all known names.
    pub fn find<'a>(scenarios: &'a [Scenario], name: &str) -> Result<&'a Scenario, ScenarioError> {
        let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        scenarios
            .iter()
            .find(|scenario| scenario.name == name)
            .ok_or_else(|| ScenarioError(unknown("scenario", name, &names)))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    rtt_ms: Millis,
    #[serde(default)]
    both: Vec<NodeEntry>,
    #[serde(default)]
    up: Vec<NodeEntry>,
    #[serde(default)]
    down: Vec<NodeEntry>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NodeEntry {
    LossPermille(Permille),
    BurstLoss(Bursts),
    LatencyMs(Millis),
    JitterMs(Millis),
    Reorder(Reordering),
    DuplicatePermille(Permille),
    RateLimit(Rate),
    MtuBytes(Bytes),
    OutageMs(Outage),
    RebindingMs(Period),
    NoUdp,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bursts {
    permille: Permille,
    longest: Within<1, 1_000>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reordering {
    permille: Permille,
    ms: Millis,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    kbit_per_s: Within<1, 10_000_000>,
    queue_ms: Within<1, 60_000>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    from: Within<0, 86_400_000>,
    until: Within<0, 86_400_000>,
}

type Permille = Within<0, 1_000>;
type Millis = Within<0, 60_000>;
type Bytes = Within<1, 65_535>;
/// Shorter periods would keep a player's channel from opening.
type Period = Within<1_000, 86_400_000>;

/// An integer from `LEAST` to `MOST`.
#[derive(Clone, Copy)]
struct Within<const LEAST: u32, const MOST: u32>(u32);

impl<'de, const LEAST: u32, const MOST: u32> Deserialize<'de> for Within<LEAST, MOST> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let within = u32::try_from(number).ok().filter(|number| (LEAST..=MOST).contains(number));
        within.map(Within).ok_or_else(|| {
            serde::de::Error::custom(format!("{number} is out of range: expected a number from {LEAST} to {MOST}"))
        })
    }
}

impl<const LEAST: u32, const MOST: u32> Within<LEAST, MOST> {
    fn millis(self) -> Duration {
        Duration::from_millis(self.0.into())
    }

    fn short(self) -> u16 {
        u16::try_from(self.0).expect("its range is that of a u16")
    }
}

impl Entry {
    fn into_scenario(self) -> Result<Scenario, ScenarioError> {
        let Entry { name, rtt_ms, both, up, down } = self;
        let nodes = |way: &[NodeEntry]| -> Vec<Node> { both.iter().chain(way).map(NodeEntry::node).collect() };
        let (up, down) = (nodes(&up), nodes(&down));
        // The latency is another node.
        if up.len().max(down.len()) >= DRAWS {
            return Err(ScenarioError(format!("{name:?} has more than {} nodes in one direction", DRAWS - 1)));
        }
        Ok(Scenario { name, rtt: rtt_ms.millis(), up, down })
    }
}

impl NodeEntry {
    fn node(&self) -> Node {
        match *self {
            NodeEntry::LossPermille(permille) => Node::Loss { permille: permille.short() },
            NodeEntry::BurstLoss(Bursts { permille, longest }) => {
                Node::BurstLoss { permille: permille.short(), longest: longest.short() }
            }
            NodeEntry::LatencyMs(latency) => Node::Latency(latency.millis()),
            NodeEntry::JitterMs(most) => Node::Jitter(most.millis()),
            NodeEntry::Reorder(Reordering { permille, ms }) => {
                Node::Reorder { permille: permille.short(), by: ms.millis() }
            }
            NodeEntry::DuplicatePermille(permille) => Node::Duplicate { permille: permille.short() },
            NodeEntry::RateLimit(Rate { kbit_per_s, queue_ms }) => {
                let bytes_per_s = u64::from(kbit_per_s.0) * 1_000 / 8;
                // Room for at least two full datagrams, or none could ever pass.
                let queue_bytes = (bytes_per_s * u64::from(queue_ms.0) / 1_000).max(3_000);
                let queue_bytes = usize::try_from(queue_bytes).unwrap_or(usize::MAX);
                Node::RateLimit(RateLimit::new(bytes_per_s, queue_bytes))
            }
            NodeEntry::MtuBytes(most) => Node::Mtu(most.short().into()),
            NodeEntry::OutageMs(Outage { from, until }) => Node::Blackout(from.millis()..until.millis()),
            NodeEntry::RebindingMs(every) => Node::Rebinding(every.millis()),
            NodeEntry::NoUdp => Node::NoUdp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_can_be_read() {
        let shipped = Scenario::shipped();
        assert_eq!(Scenario::find(&shipped, "lossy-5").unwrap().rtt, Duration::from_millis(50));
        let mobile = Scenario::find(&shipped, "mobile").unwrap();
        let Node::RateLimit(limit) = &mobile.down[2] else { panic!("{mobile:?}") };
        let full = limit.pass(Duration::ZERO, 1_250_000);
        assert_eq!(full, Some(Duration::from_millis(500)), "20 Mbit/s, 500 ms");
        assert_eq!(limit.pass(Duration::ZERO, 1), None);
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_what_comes_closest() {
        for (yaml, expected) in [
            ("- name: a\n  rtt: 5\n", "line 2, column 3: there is no key \"rtt\"; is it \"rtt_ms\"? Known are name, "),
            (
                "- name: a\n  rtt_ms: 5\n  both:\n    - los_permille: 3",
                "line 4, column 7: there is no node \"los_permille\"; is it \"loss_permille\"?",
            ),
            ("- name: a\n  rtt_ms: 5\n  colour: 3", "line 3, column 3: there is no key \"colour\"; known are name, "),
            ("- name: a\n  rtt_ms: 5\n  up: [{ reorder: { permile: 3, ms: 2 } }]", "is it \"permille\"?"),
            (
                "- name: a\n  rtt_ms: 5\n  up: [{ loss_permille: 1001 }]",
                "line 3, column 25: 1001 is out of range: expected a number from 0 to 1000",
            ),
            ("- name: a\n  rtt_ms: -1", "line 2, column 11: -1 is out of range"),
            ("- name: a\n  rtt_ms: soon", "line 2, column 11: "),
            ("- name: a", "line 1, column "),
            ("- name: a\n  rtt_ms: 5\n  rtt_ms: 6", "line 3, column 3: "),
            ("- name: a\n  rtt_ms: 5\n- name: a\n  rtt_ms: 6", "the name \"a\" is used twice"),
            ("- name: [a\n", "line "),
            ("name: a\nrtt_ms: 5", "line 1, column 1: "),
            ("\t- name", "line 1, column "),
            ("[]", "it contains no scenario"),
            ("", "it contains no scenario"),
        ] {
            let error = Scenario::parse(yaml).expect_err(yaml).to_string();
            assert!(error.contains(expected), "{yaml}\n{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let many = format!("- name: a\n  rtt_ms: 5\n  up: [{}]", "no_udp, ".repeat(16));
        assert!(Scenario::parse(&many).expect_err("too many").to_string().contains("more than 15 nodes"));
        let long = format!("- name: {}", "a".repeat(FILE_BYTES));
        assert!(Scenario::parse(&long).expect_err("too long").to_string().contains("the limit is"));
        // Small in the file, large when every alias is replaced.
        let layers: String = (1..20).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
        Scenario::parse(&format!("a0: &a0 [1]\n{layers}")).expect_err("a bomb");
        Scenario::parse(&"[".repeat(100_000)).expect_err("too deep");
    }

    #[test]
    fn a_name_that_there_is_not_gets_the_nearest() {
        let shipped = Scenario::shipped();
        let error = Scenario::find(&shipped, "losy-5").expect_err("no such").to_string();
        assert!(error.starts_with("there is no scenario \"losy-5\"; is it \"lossy-5\"? Known are lan, "), "{error}");
    }
}
