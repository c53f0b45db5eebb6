//! Parsers of the values of options.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::MIB;
use crate::limits;

pub(super) fn tick_ms() -> impl clap::builder::TypedValueParser<Value = u32> {
    let (shortest, longest) = limits::TICK_MS_RANGE.into_inner();
    clap::value_parser!(u32).range(i64::from(shortest)..=i64::from(longest))
}

pub(super) fn seconds(range: RangeInclusive<Duration>) -> impl clap::builder::TypedValueParser<Value = u64> {
    let (shortest, longest) = range.into_inner();
    clap::value_parser!(u64).range(shortest.as_secs()..=longest.as_secs())
}

pub(super) fn mib() -> impl clap::builder::TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(1..=u64::MAX / MIB)
}

pub(super) fn max_players(text: &str) -> Result<usize, String> {
    number(text, limits::PLAYERS_PER_ROOM_MAX)
}

pub(super) fn max_rooms(text: &str) -> Result<usize, String> {
    number(text, limits::ROOMS)
}

fn number(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from 1 to {most}")),
    }
}
