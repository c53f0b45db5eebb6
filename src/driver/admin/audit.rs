//! What operators did.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::views::millis;
use crate::log_limit::ADMIN;

const ENTRIES: usize = 256;

/// An action of an operator.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    at_ms: u64,
    address: String,
    pub(super) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) player: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// `done`, or why not.
    pub(super) outcome: String,
}

impl Entry {
    pub(super) fn new(at: Duration, remote: SocketAddr) -> Entry {
        let address = remote.to_string();
        Entry { at_ms: millis(at), address, action: "", room: None, player: None, detail: None, outcome: String::new() }
    }
}

/// The last actions, which the log has all of.
#[derive(Debug, Default)]
pub(super) struct Audit(VecDeque<Entry>);

impl Audit {
    pub(super) fn note(&mut self, entry: Entry) {
        let Entry { address, action, room, player, detail, outcome, .. } = &entry;
        let shown = |text: &Option<String>| text.as_deref().map(|text| text.replace(char::is_control, " "));
        let (room, detail) = (shown(room), shown(detail));
        let parts = [
            room.as_ref().map(|room| format!(" {room}")),
            player.map(|player| format!(" player {player}")),
            detail.as_ref().map(|detail| format!(" ({detail})")),
        ];
        let what: String = parts.into_iter().flatten().collect();
        let outcome = outcome.trim_end_matches('.');
        log::info!(
            target: ADMIN, address = address.as_str(), action = *action, room = room.as_deref(), player = player,
            detail = detail.as_deref(), outcome = outcome;
            "{address}: {action}{what}: {outcome}",
        );
        self.0.truncate(ENTRIES - 1);
        self.0.push_front(entry);
    }

    /// The newest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }
}
