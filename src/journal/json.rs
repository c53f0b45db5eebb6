//! Inputs and outputs of rooms as readable JSON.

use rmpv::Value as Msgpack;
use serde_json::{Map, Value, json};

use crate::game::{Identity, Link, Target, Tick};
use crate::room::{Input, Output};
use crate::wire::frame::Kind;
use crate::wire::msgpack;

/// Returns an input as JSON: its name, its fields, and the whole message of the player.
#[must_use]
pub fn input_to_json(input: &Input) -> Value {
    match input {
        Input::Join { player, join } => {
            let mut shown = json!({ "join": player, "name": join.name, "data": join.data });
            if let Some(Identity { subject, claims }) = &join.identity {
                shown["subject"] = json!(subject);
                shown["claims"] = claims.clone();
            }
            if !join.attached.is_null() {
                shown["attached"] = join.attached.clone();
            }
            shown
        }
        Input::Leave { player, reason } => json!({ "leave": player, "reason": reason }),
        Input::Drop { player } => json!({ "drop": player }),
        Input::Resume { player, resumed } => json!({ "resume": player, "reloaded": resumed.reloaded }),
        Input::Input { player, number, seen, value } => {
            json!({ "input": msgpack_to_json(value), "player": player, "number": number, "seen": seen })
        }
        Input::Command { player, value } => json!({ "command": msgpack_to_json(value), "player": player }),
        Input::Ticks { player, first, last } => json!({ "ticks": [first, last], "player": player }),
        Input::Link { player, link: Link { rtt_us, jitter_us, loss_down_permille, loss_up_permille } } => json!({
            "link": player, "rttUs": rtt_us, "jitterUs": jitter_us,
            "lossDownPermille": loss_down_permille, "lossUpPermille": loss_up_permille,
        }),
        Input::External { bytes } => match std::str::from_utf8(bytes) {
            Ok(text) => json!({ "external": text }),
            Err(_) => json!({ "external": bytes }),
        },
        Input::Drain { time } => json!({ "drain": time.as_millis() }),
        Input::Restore { saved } => json!({ "restore": saved.len() }),
        Input::Tick(Tick { number, missed }) => json!({ "tick": number, "missed": missed }),
    }
}

/// Returns an output as JSON: its name, its recipients, and the whole message of the game.
#[must_use]
pub fn output_to_json(output: &Output) -> Value {
    match output {
        Output::Joined { player, welcome } => json!({ "joined": player, "welcome": welcome }),
        Output::Refused { player, code, message } => json!({ "refused": player, "code": code, "message": message }),
        Output::Left { player, reason, message } => json!({ "left": player, "reason": reason, "message": message }),
        Output::Renamed { player, name } => json!({ "renamed": player, "name": name }),
        Output::Body { to, kind, body } => body_to_json(*to, *kind, body),
        Output::Ended => json!({ "ended": true }),
        Output::Closed => json!({ "closed": true }),
    }
}

fn body_to_json(to: Target, kind: Kind, body: &[u8]) -> Value {
    let to = match to {
        Target::All => json!("all"),
        Target::Except(player) => json!({ "except": player }),
        Target::One(player) => json!(player),
    };
    let (name, body) = match kind {
        Kind::State => ("state", state_to_json(body)),
        Kind::Event => ("event", state_to_json(body)),
        Kind::ReliableEvent => ("reliableEvent", state_to_json(body)),
        Kind::Tick => ("tick", msgpack_to_json(body)),
        Kind::Ticks => ("ticks", msgpack_to_json(body)),
        Kind::Input | Kind::Ping | Kind::Pong | Kind::Command | Kind::Ack => unreachable!("a room sends no {kind:?}"),
    };
    json!({ name: body, "to": to })
}

/// Decodes a state or an event.
pub(crate) fn state_to_json(body: &[u8]) -> Value {
    msgpack::decode_at_tick(body).map_or_else(|_| msgpack_to_json(body), |(_, value)| msgpack_to_json(value))
}

/// Decodes one msgpack value. Keys become text, bytes an array of numbers, and numbers that JSON lacks their names.
fn msgpack_to_json(bytes: &[u8]) -> Value {
    match rmpv::decode::read_value(&mut &*bytes) {
        Ok(value) => value_to_json(&value),
        Err(error) => json!({ "unreadable": error.to_string() }),
    }
}

fn value_to_json(value: &Msgpack) -> Value {
    match value {
        Msgpack::Nil => Value::Null,
        Msgpack::Boolean(value) => json!(value),
        Msgpack::Integer(value) => value.as_u64().map_or_else(|| json!(value.as_i64()), |value| json!(value)),
        Msgpack::F32(value) => number(f64::from(*value), value),
        Msgpack::F64(value) => number(*value, value),
        Msgpack::String(value) => json!(String::from_utf8_lossy(value.as_bytes())),
        Msgpack::Binary(value) | Msgpack::Ext(_, value) => json!(value),
        Msgpack::Array(values) => values.iter().map(value_to_json).collect(),
        Msgpack::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| {
                let key = key.as_str().map_or_else(|| value_to_json(key).to_string(), str::to_owned);
                (key, value_to_json(value))
            });
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

fn number(value: f64, name: &impl ToString) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| json!(name.to_string()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_msgpack_has_its_json() {
        fn check(value: Msgpack, expected: Value) {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).unwrap();
            assert_eq!(msgpack_to_json(&bytes), expected, "{value}");
        }
        check(Msgpack::Nil, json!(null));
        check(true.into(), json!(true));
        check(u64::MAX.into(), json!(u64::MAX));
        check((-7).into(), json!(-7));
        check(0.5_f32.into(), json!(0.5));
        check(0.1_f64.into(), json!(0.1));
        check(f64::NAN.into(), json!("NaN"));
        check("ö".into(), json!("ö"));
        check(Msgpack::Binary(vec![1, 255]), json!([1, 255]));
        check(Msgpack::Array(vec![1.into(), "x".into()]), json!([1, "x"]));
        check(
            Msgpack::Map(vec![(7.into(), 1.into()), (true.into(), 2.into()), ("k".into(), Msgpack::Nil)]),
            json!({ "7": 1, "true": 2, "k": null }),
        );
        assert!(msgpack_to_json(&[0x93, 1]).get("unreadable").is_some());
    }
}
