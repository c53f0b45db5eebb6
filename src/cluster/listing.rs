//! The rooms that a node lists, for those who look for one at another.

use crate::limits::LISTED_ROOMS;
use crate::wire::name;
use crate::wire::signaling::RoomName;

/// A room that its game lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRoom {
    /// The name.
    pub name: RoomName,
    /// The title that the game has given the room.
    pub title: Option<String>,
    /// The number of players.
    pub players: usize,
    /// The maximum number of players.
    pub max_players: usize,
    /// Whether the game has locked the room.
    pub locked: bool,
    /// When its ticks began, also if that was at another node: milliseconds since 1970, by the clock of its node.
    pub started_ms: u64,
    /// The length of its ticks in microseconds.
    pub tick_us: u32,
}

/// A room in the store: a line of JSON.
type Line = (String, usize, usize, bool, u64, u32, Option<String>);

impl ListedRoom {
    fn is_joinable(&self) -> bool {
        !self.locked && self.players < self.max_players
    }

    /// Whether both look the same to somebody who looks for a room. The clock of a node may be set while a room lasts.
    fn is_like(&self, other: &ListedRoom) -> bool {
        let started_ms = self.started_ms;
        *self == ListedRoom { started_ms, ..other.clone() }
    }

    fn write(&self) -> String {
        let ListedRoom { name, title, players, max_players, locked, started_ms, tick_us } = self;
        let line = (name.as_str(), players, max_players, locked, started_ms, tick_us, title);
        serde_json::to_string(&line).expect("text and numbers are JSON") + "\n"
    }

    fn read(line: &str) -> Option<ListedRoom> {
        let (name, players, max_players, locked, started_ms, tick_us, title): Line = serde_json::from_str(line).ok()?;
        let title = title.as_deref().and_then(name::title);
        let name = RoomName::parse(&name)?;
        Some(ListedRoom { name, title, players, max_players, locked, started_ms, tick_us })
    }
}

/// Whether two lists look the same.
pub(super) fn are_alike(one: &[ListedRoom], other: &[ListedRoom]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.is_like(other))
}

/// Leaves out the rooms that exceed [`LISTED_ROOMS`], first those that nobody can join.
pub(super) fn limited(mut rooms: Vec<ListedRoom>) -> Vec<ListedRoom> {
    rooms.sort_by_key(|room| !room.is_joinable());
    rooms.truncate(LISTED_ROOMS);
    rooms
}

/// The lines of rooms, as far as they fit into these bytes.
pub(crate) fn write(rooms: &[ListedRoom], longest: usize) -> String {
    let mut text = String::new();
    for line in rooms.iter().map(ListedRoom::write) {
        if text.len() + line.len() > longest {
            break;
        }
        text += &line;
    }
    text
}

/// Reads the lines of a node, in their order; `None` if one is no room, or there are too many.
#[cfg(all(feature = "cluster", target_os = "linux"))]
pub(crate) fn read_all(text: &str) -> Option<Vec<ListedRoom>> {
    (text.lines().count() <= LISTED_ROOMS).then(|| text.lines().map(ListedRoom::read).collect())?
}

/// Reads the lines of several nodes, in turns, so that each has its share of [`LISTED_ROOMS`]. Malformed lines are
/// left out: the last one of a node may be cut off.
pub(crate) fn read(texts: &[impl AsRef<[u8]>]) -> Vec<ListedRoom> {
    let lines = |text: &[u8]| String::from_utf8_lossy(text).lines().rev().map(str::to_owned).collect();
    let mut nodes: Vec<Vec<String>> = texts.iter().map(|text| lines(text.as_ref())).collect();
    let mut rooms = Vec::new();
    while rooms.len() < LISTED_ROOMS && !nodes.is_empty() {
        nodes.retain_mut(|lines| match lines.pop() {
            Some(line) => {
                rooms.extend(ListedRoom::read(&line));
                true
            }
            None => false,
        });
    }
    rooms.truncate(LISTED_ROOMS);
    rooms.sort_by(|one, other| one.name.cmp(&other.name));
    rooms.dedup_by(|one, other| one.name == other.name);
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LISTING_BYTES;

    fn room(name: &str, players: usize) -> ListedRoom {
        let name = RoomName::parse(name).expect("a name");
        let title = Some(format!("Tïtle \"of\" {name}"));
        ListedRoom {
            name,
            title,
            players,
            max_players: 4,
            locked: false,
            started_ms: 1_700_000_000_000,
            tick_us: 33_000,
        }
    }

    #[test]
    fn lines_are_read_as_written_and_a_cut_one_is_left_out() {
        let rooms: Vec<_> = (0..30).map(|number| room(&format!("room-{number:02}"), number % 5)).collect();
        let text = write(&rooms, LISTING_BYTES);
        assert_eq!(read(&[&text]), rooms);
        for cut in 0..text.len() {
            let read = read(&[&text.as_bytes()[..cut]]);
            let whole = text.as_bytes()[..cut].iter().filter(|&&byte| byte == b'\n').count();
            assert!(read.len() == whole || read.len() == whole + 1, "{cut}");
            assert_eq!(read, rooms[..read.len()], "{cut}");
        }
    }

    #[test]
    fn text_of_others_is_checked() {
        let hidden = "[\"a\",1,2,false,5,33000,\"\\u202eevil\\n\"]";
        for (line, title) in [(hidden, Some("evil")), ("[\"a\",1,2,false,5,33000,null]", None)] {
            assert_eq!(read(&[line]).first().expect("a room").title.as_deref(), title);
        }
        for wrong in ["", "[]", "{}", "[\"a b\",1,2,false,5,33000,null]", "[\"a\",-1,2,false,5,33000,null]", "\u{0}"] {
            assert_eq!(read(&[wrong]), [], "{wrong}");
        }
        assert_eq!(read(&[b"\xff\xfe\n".as_slice(), write(&[room("b", 1)], LISTING_BYTES).as_bytes()]), [room("b", 1)]);
    }

    #[test]
    fn the_limits_are_kept_and_rooms_that_can_be_joined_come_first() {
        let rooms = |prefix: &str| {
            (0..LISTED_ROOMS + 9).map(|number| room(&format!("{prefix}{number:04}"), 4 * (number % 2))).collect()
        };
        let limited = limited(rooms("a"));
        assert_eq!(limited.len(), LISTED_ROOMS);
        assert!(limited[..=LISTED_ROOMS / 2].iter().all(ListedRoom::is_joinable));
        let text = write(&limited, LISTING_BYTES);
        assert!(text.len() <= LISTING_BYTES && text.ends_with('\n'), "{} bytes", text.len());
        let [few, many] = [write(&[room("few", 0)], LISTING_BYTES), text];
        let read = read(&[many.clone(), few, many.replace("\"a", "\"b")]);
        assert!(read.len() <= LISTED_ROOMS, "{} rooms", read.len());
        for prefix in ["a", "b", "few"] {
            assert!(read.iter().any(|room| room.name.as_str().starts_with(prefix)), "each node has its share");
        }
    }
}
