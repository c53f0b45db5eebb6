//! Pig, the dice game: roll for as long as you dare, but a one loses it all. What you keep in time is a score, and the
//! best of them stand in a table that SQLite remembers.
#![expect(clippy::disallowed_methods, reason = "the database has a thread of its own")]

use rtcade::driver::Handle;
use rtcade::game::{Batch, Context, Game, Incoming, Join, Lane, Leave, PlayerId, Refusal, RoomInfo, Target, Tick};
use rtcade::rand::RngExt;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

/// The best scores of a room, and whose they are.
type Table = Vec<(String, u32)>;

/// What a room has for the database; without a name and a score it only wants the table.
struct Note {
    room: String,
    kept: Option<(String, u32)>,
}

struct Pig {
    room: String,
    notes: Sender<Note>,
    table: Table,
    sums: BTreeMap<PlayerId, u32>, // what each would lose
}

impl Pig {
    fn new(room: &RoomInfo, notes: &Sender<Note>) -> Pig {
        let pig = Pig { room: room.name.clone(), notes: notes.clone(), table: Vec::new(), sums: BTreeMap::new() };
        pig.note(None);
        pig
    }

    /// Never waits, and tells the game nothing: a replay, where nobody listens, is the same.
    fn note(&self, kept: Option<(String, u32)>) {
        let _ = self.notes.send(Note { room: self.room.clone(), kept });
    }
}

impl Game for Pig {
    type Input = ();
    type Command = String;
    type State = Vec<(PlayerId, u32)>;
    type Event = Table;
    type Welcome = Table;
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<Table, Refusal> {
        Ok(self.table.clone())
    }

    fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, _: Leave) {
        self.sums.remove(&player);
    }

    fn external(&mut self, ctx: &mut Context<Self>, bytes: &[u8]) {
        self.table = serde_json::from_slice(bytes).expect("the thread below has written it");
        let _ = ctx.event(Target::All, &self.table, Lane::Reliable);
    }

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
        for message in batch {
            let Incoming::Command { player, command, .. } = message else { continue };
            if command == "roll" {
                let die = ctx.rng().random_range(1..=6);
                let sum = self.sums.entry(player).or_default();
                *sum = if die == 1 { 0 } else { *sum + die };
            } else if let (Some(player), Some(sum)) = (ctx.player(player), self.sums.remove(&player)) {
                self.note(Some((player.name.clone(), sum)));
            }
        }
        let sums = self.sums.iter().map(|(&player, &sum)| (player, sum)).collect();
        let _ = ctx.state(&sums); // past 16 KiB nothing is sent, and the room counts it
    }
}

/// A thread of its own, which waits for the disk while the rooms don't wait for it.
fn keep_scores(file: &str, notes: &Receiver<Note>, server: &Handle) -> rusqlite::Result<()> {
    let database = rusqlite::Connection::open(file)?;
    database.execute_batch("CREATE TABLE IF NOT EXISTS scores (room TEXT, name TEXT, score INTEGER)")?;
    let mut best =
        database.prepare("SELECT name, score FROM scores WHERE room = ? ORDER BY score DESC, rowid LIMIT 10")?;
    for Note { room, kept } in notes {
        if let Some((name, score)) = kept {
            database.execute("INSERT INTO scores VALUES (?, ?, ?)", (&room, name, score))?;
        }
        let table: Table = best.query_map([&room], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let table = serde_json::to_vec(&table).expect("names and numbers are JSON");
        if let Err(error) = server.external(&room, table) {
            eprintln!("the room {room} has to wait for its table: {error}");
        }
    }
    Ok(())
}

fn main() -> rtcade::ExitCode {
    let (sender, notes) = mpsc::channel();
    let mut keeper = None;
    let status = rtcade::run_with(
        move |room| Ok(Pig::new(room, &sender)),
        |driver| {
            let server = driver.handle();
            let keep = move || keep_scores(".scores.db", &notes, &server).expect(".scores.db can be written");
            keeper = Some(thread::spawn(keep));
        },
    );
    // The server and its rooms are gone: what they noted last is still on its way.
    keeper.map(thread::JoinHandle::join);
    status
}

#[cfg(test)]
mod tests;
