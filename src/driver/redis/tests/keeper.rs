//! The store in the parent of nodes answers as Redis does, also to nonsense.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use redis::parse_redis_value;

use super::super::keeper::Keeper;
use super::table::{Current, Known, Newest, any_command, compared};
use super::*;
use crate::cluster::store::ListedRoom;
use crate::cluster::{Table, listing};
use crate::limits::LISTING_BYTES;

fn arguments_of(command: &Command) -> Cmd {
    let mut call = redis::cmd("EVALSHA");
    call.arg("hash").arg(1).arg("prefix");
    codec::write(&mut call, command);
    call
}

#[test]
fn each_command_and_each_answer_is_read_as_it_was_written() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (mut table, mut known) = (Table::new(1), Known::default());
    let mut current: Current = [Newest::NONE; 3];
    for step in 0..5_000 {
        let command = any_command(&mut rng, &current, &known);
        let Ok(Value::Array(parts)) = parse_redis_value(&arguments_of(&command).get_packed_command()) else {
            panic!("{command:?} is no array")
        };
        let parts: Vec<Vec<u8>> = parts.into_iter().map(|part| redis::from_redis_value(part).unwrap()).collect();
        let mut written = command.clone();
        if let Command::Publish { rooms, .. } = &mut written {
            rooms.truncate(listing::write(rooms, LISTING_BYTES).lines().count());
        }
        assert_eq!(codec::read_command(&parts[4..]).as_ref(), Some(&written), "{step}");
        for left_out in 0..parts.len() - 4 {
            let mut fewer = parts[4..].to_vec();
            fewer.remove(left_out);
            // Fewer of what may be repeated are a command, too.
            assert_ne!(codec::read_command(&fewer).as_ref(), Some(&written), "{step}");
        }
        let reply = table.apply(1_000_000 + step, command.clone());
        let answer = parse_redis_value(&codec::write_reply(&reply)).unwrap();
        assert_eq!(codec::read(&command, answer), Some(reply.clone()), "{step}: {command:?}");
        compared(&reply, &command, &mut known);
        if let (Command::Renew { member, .. }, Reply::Renewed { renewal: Renewal::Since(_), .. }) = (&command, &reply) {
            let newest = Newest { incarnation: member.incarnation, has_left: false, has_lapsed: false };
            current[usize::from(member.node.as_bytes()[0] - b'a')] = newest;
        }
    }
}

/// A connection of the node.
fn connect(keeper: &Arc<Keeper>, node: &str) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    keeper.serve(node, theirs).unwrap();
    ours.set_read_timeout(Some(LONG)).unwrap();
    ours
}

fn ask(stream: &mut UnixStream, command: &Command) -> Value {
    stream.write_all(&arguments_of(command).get_packed_command()).unwrap();
    redis::Parser::new().parse_value(stream).unwrap()
}

#[test]
fn nonsense_costs_a_connection_and_no_more() {
    let keeper = Arc::new(Keeper::new(1));
    let mut good = connect(&keeper, "a");
    let (own, other) = (node("a", 1), node("b", 1));
    assert!(matches!(ask(&mut good, &renew(&own)), Value::Array(_)));
    for nonsense in [
        &b"\0\0\0\0\r\n"[..],
        b"*-7\r\n",
        b"*1000000000\r\n$1000000000\r\n",
        b"$99999999999999999999\r\n",
        b"*3\r\n$3\r\nabc\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = connect(&keeper, "a");
        stream.write_all(nonsense).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty() || rest.starts_with(b"-ERR "), "{}: {rest:?}", nonsense.escape_ascii());
    }
    // More than a request may have, all of it allowed as far as it goes.
    let mut long = connect(&keeper, "a");
    let written = long.write_all(b"*2\r\n$4000000\r\n").and_then(|()| long.write_all(&vec![0; 4_000_000]));
    let mut rest = Vec::new();
    let read = long.read_to_end(&mut rest);
    assert!(rest.is_empty() && (written.is_err() || read.is_err() || read.is_ok_and(|read| read == 0)));

    for request in [&b"*1\r\n$4\r\nPING\r\n"[..], b"+OK\r\n", b"*0\r\n", b"*2\r\n$7\r\nEVALSHA\r\n$0\r\n\r\n"] {
        good.write_all(request).unwrap();
        let answer = redis::Parser::new().parse_value(&mut good).unwrap();
        assert!(matches!(answer, Value::ServerError(_)), "{}: {answer:?}", request.escape_ascii());
    }
    let answer = ask(&mut good, &acquire(room(1), &other));
    assert!(matches!(answer, Value::ServerError(_)), "a node asks for itself alone: {answer:?}");
    assert_eq!(keeper.owner(&room(1)), None);
    let pool = RoomName::of_pool("chess").unwrap();
    for name in [room(1), pool] {
        assert!(matches!(ask(&mut good, &acquire(name.clone(), &own)), Value::Array(_)));
        assert_eq!(keeper.owner(&name).as_deref(), Some("a"), "a new store gives rooms at once");
    }
    assert_eq!(keeper.loads().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a"]);
    keeper.forget("a");
    assert_eq!(keeper.owner(&room(1)), None, "the rooms of a process that has ended are free");
}

#[test]
fn each_node_finds_the_nodes_and_the_rooms_of_others() {
    let keeper = Arc::new(Keeper::new(1));
    let members = [node("a", 1), node("b", 1)];
    let mut streams = ["a", "b"].map(|node| connect(&keeper, node));
    let mut reply = |by: usize, command: Command| codec::read(&command, ask(&mut streams[by], &command));
    for (by, member) in members.iter().enumerate() {
        assert!(matches!(reply(by, renew(member)), Some(Reply::Renewed { .. })));
    }
    let listed = |number: usize| ListedRoom {
        name: room(number),
        title: Some("Ein \"Titel\" ☃".to_owned()),
        players: 1,
        max_players: 4,
        locked: false,
        started_ms: 1_700_000_000_000,
        tick_us: 33_000,
    };
    let list = |by: usize| Command::ListRooms { member: members[by].clone() };
    let publish = |by: usize, rooms: &[ListedRoom]| Command::Publish {
        member: members[by].clone(),
        rooms: rooms.to_vec(),
        ttl_ms: 600_000,
    };
    let rooms = vec![listed(1), listed(2)];
    assert_eq!(reply(0, publish(0, &rooms)), Some(Reply::Done));
    assert_eq!(reply(1, publish(0, &[])), None, "a node lists its own rooms alone");
    assert_eq!(reply(1, list(1)), Some(Reply::Rooms(rooms)));
    assert_eq!(reply(0, list(0)), Some(Reply::Rooms(Vec::new())));
    let Some(Reply::Nodes(nodes)) = reply(1, Command::ListNodes) else { panic!("no nodes") };
    assert_eq!(nodes.count, 2);
    assert_eq!(nodes.nodes.iter().map(|node| node.member.clone()).collect::<Vec<_>>(), members);
    assert!(nodes.nodes.iter().all(|node| node.state(nodes.store_time) == "open"));
    keeper.forget("a");
    assert_eq!(reply(1, list(1)), Some(Reply::Rooms(Vec::new())));
}
