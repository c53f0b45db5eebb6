//! What the nodes of a cluster have told Redis.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::operators::secret;
use crate::cli::{ExitCode, complain};
use crate::driver::{ClusterStatus, NodeStatus, Store};

const HEADS: [&str; 9] = ["NODE", "STATE", "LOAD", "ROOMS", "PLAYERS", "LEASE", "ENDS IN", "REGION", "URL"];
/// The columns of numbers.
const RIGHT: [bool; 9] = [false, false, true, true, true, true, true, false, false];

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Redis, as in redis://user:password@host:6379/0. Default: that of the configuration file and the environment.
    ///
    /// Other users of this machine see the password in the list of processes: use --redis-file or the environment
    /// variable RTCADE_CLUSTER__REDIS instead.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// File with the URL of Redis.
    #[arg(long, value_name = "FILE", conflicts_with = "redis")]
    redis_file: Option<PathBuf>,
    /// Name of the cluster. Default: that of the configuration, or rtcade.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Returns the exit status. `configured` are the URL of Redis and the name of the cluster by default.
pub(super) fn run(
    arguments: &Status,
    configured: impl FnOnce() -> Result<(Option<String>, String), String>,
) -> ExitCode {
    match status(arguments, configured) {
        Ok(text) => {
            let printed = io::stdout().write_all(text.as_bytes());
            if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(sentence) => {
            complain(&sentence);
            ExitCode::FAILURE
        }
    }
}

fn status(
    Status { redis, redis_file, cluster, json }: &Status,
    configured: impl FnOnce() -> Result<(Option<String>, String), String>,
) -> Result<String, String> {
    let given = secret(redis.as_deref(), redis_file.as_deref(), "--redis-file")?;
    let (default_url, default_cluster) = configured()?;
    let url = given.or(default_url).ok_or(
        "no Redis is configured: name a file with its URL with --redis-file FILE. Of nodes that rtcade cluster \
        runs without Redis only their parent knows: see the admin page of one of them",
    )?;
    let store = Store::new(&url, cluster.as_ref().unwrap_or(&default_cluster))?;
    let status = ClusterStatus::from(&store.nodes()?);
    match json {
        true => serde_json::to_string_pretty(&status).map(|text| text + "\n").map_err(|error| error.to_string()),
        false => Ok(table(&status)),
    }
}

fn table(status: &ClusterStatus) -> String {
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(status.nodes.iter().map(row));
    let widths: Vec<usize> =
        (0..HEADS.len()).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default()).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).zip(RIGHT).map(|((cell, &width), is_right)| match is_right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text += "\n";
    }
    let counted = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let ClusterStatus { count, rooms, players, .. } = *status;
    text += &format!("{}, {}, {}", counted(count, "node"), counted(rooms, "room"), counted(players, "player"));
    let left_out = count.saturating_sub(status.nodes.len());
    if left_out > 0 {
        text += &format!(" ({} not shown)", counted(left_out, "node"));
    }
    text + "\n"
}

fn row(node: &NodeStatus) -> [String; 9] {
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { printable(text) };
    let left = Duration::from_millis(node.lease_left_ms).as_secs_f64();
    [
        printable(&node.name),
        node.state.to_owned(),
        format!("{:.0} %", node.load * 100.0),
        node.rooms.to_string(),
        node.players.to_string(),
        age(node.lease_age_ms / 1_000),
        if node.lease_left_ms == 0 { "-".to_owned() } else { format!("{left:.1} s") },
        or_none(&node.region),
        or_none(&node.url),
    ]
}

/// Text of the store for a terminal.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::store::{Member, NodeReport, Nodes, Profile};

    #[test]
    fn the_table_has_a_row_for_each_node_and_the_totals_of_those_that_are_heard_of() {
        let node = |name: &str, until: u64, profile: Profile| NodeReport {
            member: Member { node: name.into(), incarnation: 1 },
            profile: Profile { rooms: 3, players: 14, ..profile },
            since: 1_000,
            until,
        };
        let url = "wss://node-1.example.com".to_owned();
        let open =
            Profile { url: url.clone(), region: "eu".to_owned(), load: 0.123, takes_rooms: true, ..Profile::default() };
        let nodes = vec![
            node("node-1", 305_000, open.clone()),
            node("node-2\u{1b}[2J", 303_500, Profile { is_draining: true, ..open.clone() }),
            node("node-3", 299_000, open.clone()),
            node("node-4", 305_000, Profile { takes_rooms: false, load: 0.95, ..open }),
            node("node-5", 305_000, Profile::default()),
        ];
        let text = table(&ClusterStatus::from(&Nodes { store_time: 301_000, count: 9, nodes }));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NODE        STATE       LOAD  ROOMS  PLAYERS  LEASE  ENDS IN  REGION  URL");
        assert_eq!(lines[1], format!("node-1      open        12 %      3       14  5 min    4.0 s  eu      {url}"));
        for (line, words) in lines[2..].iter().zip(["?[2J  draining", "silent", "busy        95 %", "no address"]) {
            assert!(line.contains(words), "{line}");
        }
        assert_eq!(lines[6], "9 nodes, 12 rooms, 56 players (4 nodes not shown)");
    }
}
