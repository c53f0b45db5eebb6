//! What the first line of a connection asks for, without reading it.

use crate::driver::tcp::NODE;
use crate::wire::signaling::RoomName;

/// Bytes of a first line that are looked at: with a longer one any node gets the connection.
pub(super) const LINE_BYTES: usize = 4 * 1024;

/// What is to be done with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Glance {
    /// More bytes have to arrive.
    Wait,
    /// The client has closed it.
    Gone,
    Line(Wish),
}

/// Which node a connection is for. What is no request of HTTP is for any, and answered there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// The node that is named.
    pub(super) node: Option<String>,
    pub(super) room: Option<RoomName>,
    /// Whether a player may be at the other end, rather than a page, a file or figures being asked for.
    pub(super) is_of_player: bool,
}

/// Looks at the bytes that have arrived.
pub(super) fn glance(bytes: &[u8]) -> Glance {
    let mut fields = [httparse::EMPTY_HEADER; 0];
    let mut head = httparse::Request::new(&mut fields);
    let is_partial = matches!(head.parse(bytes), Ok(httparse::Status::Partial));
    match head.path {
        Some(target) => Glance::Line(wish(target)),
        None if is_partial && bytes.len() < LINE_BYTES => Glance::Wait,
        None => Glance::Line(Wish::default()),
    }
}

fn wish(target: &str) -> Wish {
    let target = target.split('#').next().unwrap_or(target);
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.find(['/', '?']).map_or("", |at| &rest[at..]),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let room = path.strip_prefix("/r/").and_then(|rest| RoomName::parse(rest.split('/').next()?));
    let value = |pair: &str| pair.strip_prefix(NODE)?.strip_prefix('=').map(str::to_owned);
    Wish { node: query.split('&').find_map(value), is_of_player: room.is_some() || path == "/api", room }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_room_and_a_node() {
        let line = |target: &str| match glance(format!("GET {target} HTTP/1.1\r\nHost: a\r\n").as_bytes()) {
            Glance::Line(Wish { node, room, is_of_player }) => {
                (room.map(|room| room.as_str().to_owned()), node, is_of_player)
            }
            other => panic!("{target}: {other:?}"),
        };
        let (some, none) = (|text: &str| Some(text.to_owned()), None::<String>);
        for (target, expected) in [
            ("/", (none.clone(), none.clone(), false)),
            ("/r/lobby", (some("lobby"), none.clone(), true)),
            ("/r/lobby?node=host-2", (some("lobby"), some("host-2"), true)),
            ("/r/lobby/whip?x=1&node=host-2#node=3", (some("lobby"), some("host-2"), true)),
            ("/api?nodes=1&pass=a.b", (none.clone(), none.clone(), true)),
            ("http://host/r/lobby?node=", (some("lobby"), some(""), true)),
            ("http://host?node=n", (none.clone(), some("n"), false)),
            ("/metrics?node=n", (none.clone(), some("n"), false)),
            ("/r/", (none.clone(), none.clone(), false)),
            ("*", (none.clone(), none.clone(), false)),
        ] {
            assert_eq!(line(target), expected, "{target}");
        }
    }

    #[test]
    fn each_beginning_of_a_line_waits_and_the_rest_of_the_head_does_not_matter() {
        let (target, rest) = (b"GET /r/lobby?node=n", b" HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = [&target[..], rest].concat();
        assert!(matches!(glance(&head), Glance::Line(Wish { node: Some(node), .. }) if node == "n"));
        for length in 1..head.len() {
            let expected = if length <= target.len() { Glance::Wait } else { glance(&head) };
            assert_eq!(glance(&head[..length]), expected, "{length}");
        }
    }

    #[test]
    fn what_is_no_request_is_for_any_node() {
        let any = Glance::Line(Wish::default());
        for bytes in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET\0", b"<>", b"GET /\x80\xff HTTP/1.1\r\n"] {
            let is = glance(bytes);
            assert!(is == any || matches!(&is, Glance::Line(Wish { node: None, room: None, .. })), "{bytes:?}: {is:?}");
        }
        let long = [b"GET /r/", &vec![b'a'; LINE_BYTES][..]].concat();
        assert_eq!(glance(&long[..LINE_BYTES - 1]), Glance::Wait);
        assert_eq!(glance(&long[..LINE_BYTES]), any);
        assert_eq!(glance(b""), Glance::Wait);
    }
}
