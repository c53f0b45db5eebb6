//! What the pages of a game in development are told: that their files have changed, and what is wrong with the game.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::Driver;
use crate::game::Game;

/// The problems that are kept, so that a game that fails in each room fills no memory.
const PROBLEMS: usize = 16;

/// Shared by the server, which answers pages, and whoever finds out.
#[derive(Debug, Default)]
pub(crate) struct Development(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Counts the changes of the pages.
    pages: u64,
    /// By title.
    problems: BTreeMap<String, String>,
}

impl<G: Game> Driver<G> {
    /// Tells the pages what `development` knows.
    pub(crate) fn develop(&mut self, development: Arc<Development>) {
        self.site.develop(development);
    }
}

impl Development {
    /// Makes each page load anew.
    pub(crate) fn reload_pages(&self) {
        self.state().pages += 1;
    }

    /// Shows a problem on each page, in place of an earlier one with this title.
    pub(crate) fn show(&self, title: &str, text: String) {
        let problems = &mut self.state().problems;
        if problems.len() < PROBLEMS || problems.contains_key(title) {
            problems.insert(title.to_owned(), text);
        }
    }

    /// Removes all problems.
    pub(crate) fn clear(&self) {
        self.state().problems.clear();
    }

    /// What pages ask for.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let State { pages, problems } = &*self.state();
        let problems: Vec<_> = problems.iter().map(|(title, text)| json!({ "title": title, "text": text })).collect();
        json!({ "pages": pages, "problems": problems }).to_string().into_bytes()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
