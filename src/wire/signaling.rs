//! Signaling.
/// A valid room name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomName(String);

impl RoomName {
    /// `None` unless `name` matches `^[A-Za-z0-9_-]{1,64}$`.
    #[must_use]
    pub fn parse(name: &str) -> Option<RoomName> {
        let valid = (1..=crate::limits::ROOM_NAME_CHARS).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        valid.then(|| RoomName(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
