//! Conditional and range requests (RFC 9110 §13 and §14).

use std::ops::Range;
use std::time::{Duration, SystemTime};

use httpdate::parse_http_date;

use super::Method;

/// The conditional fields of a request, unparsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::driver) struct Conditions {
    pub(in crate::driver) if_match: Option<String>,
    pub(in crate::driver) if_none_match: Option<String>,
    pub(in crate::driver) if_modified_since: Option<String>,
    pub(in crate::driver) if_unmodified_since: Option<String>,
    pub(in crate::driver) range: Option<String>,
    pub(in crate::driver) if_range: Option<String>,
}

/// The validators of a representation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version<'a> {
    /// A strong entity tag, in its quotes.
    pub(super) tag: &'a str,
    pub(super) modified: Option<SystemTime>,
    pub(super) length: u64,
}

/// The outcome of a request's conditions and range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    Part(Range<u64>),
    NotModified,
    PreconditionFailed,
    RangeNotSatisfiable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

impl Conditions {
    /// Evaluates them in the order of RFC 9110 §13.2.2. Only `GET` has ranges (§14.2).
    pub(super) fn evaluate(&self, method: Method, version: Version<'_>, now: SystemTime) -> Wanted {
        let is_newer_than = |date: &Option<String>| -> Option<bool> {
            Some(whole_seconds(version.modified?) > parse_http_date(date.as_deref()?).ok()?)
        };
        let failed = match &self.if_match {
            Some(tags) => !names(tags, version.tag, Comparison::Strong),
            None => is_newer_than(&self.if_unmodified_since) == Some(true),
        };
        if failed {
            return Wanted::PreconditionFailed;
        }
        let is_known = match &self.if_none_match {
            Some(tags) => names(tags, version.tag, Comparison::Weak),
            None => is_newer_than(&self.if_modified_since) == Some(false),
        };
        if is_known {
            return Wanted::NotModified;
        }
        match &self.range {
            Some(range) if method == Method::Get && self.has_the_rest_of(version, now) => part(range, version.length),
            _ => Wanted::Whole,
        }
    }

    /// Whether a part of this version fits the part that the client has (§13.1.5).
    fn has_the_rest_of(&self, version: Version<'_>, now: SystemTime) -> bool {
        let Some(validator) = self.if_range.as_deref().map(str::trim) else { return true };
        if let Ok(date) = parse_http_date(validator) {
            // A file that changed within the last second may change again in the same second.
            let modified = version.modified.map(whole_seconds);
            return modified == Some(date) && date + Duration::from_secs(1) <= now;
        }
        validator == version.tag
    }
}

/// A time in the format of HTTP.
pub(super) fn whole_seconds(time: SystemTime) -> SystemTime {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970.as_secs())
}

/// Whether a list of entity tags (§8.8.3) contains this one, or is `*`.
fn names(list: &str, tag: &str, comparison: Comparison) -> bool {
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return false;
        }
        let (is_weak, strong) = rest.strip_prefix("W/").map_or((false, rest), |strong| (true, strong));
        // The quoted tag may contain a comma.
        rest = match strong.strip_prefix('"').and_then(|opaque| opaque.find('"')) {
            Some(length) => {
                let (member, after) = strong.split_at(length + 2);
                if member == tag && (!is_weak || comparison == Comparison::Weak) {
                    return true;
                }
                after
            }
            None => {
                let (member, after) = rest.split_once(',').unwrap_or((rest, ""));
                if member.trim() == "*" {
                    return true;
                }
                after
            }
        };
    }
}

/// The part that a `Range` field requests. Invalid and multiple ranges are ignored (§14.2).
fn part(range: &str, length: u64) -> Wanted {
    bounds(range, length).unwrap_or(Wanted::Whole)
}

fn bounds(range: &str, length: u64) -> Option<Wanted> {
    let (unit, ranges) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return None };
    let part = match range.split_once('-')? {
        ("", suffix) => match number(suffix)? {
            0 => 0..0,
            _ if length == 0 => return None,
            suffix => length.saturating_sub(suffix)..length,
        },
        (first, "") => number(first)?..length,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if part.is_empty() { Wanted::RangeNotSatisfiable } else { Wanted::Part(part) })
}

/// Digits; a number past all lengths is the largest.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAG: &str = "\"v2\"";

    fn at(seconds: f64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)
    }

    fn date(seconds: f64) -> Option<String> {
        Some(httpdate::fmt_http_date(at(seconds)))
    }

    /// What a version gets that was modified at 1,000.5 s and asked for at 2,000 s.
    fn evaluated(conditions: &Conditions) -> Wanted {
        let version = Version { tag: TAG, modified: Some(at(1_000.5)), length: 10 };
        conditions.evaluate(Method::Get, version, at(2_000.0))
    }

    #[test]
    fn a_known_tag_is_found_as_the_rfc_compares() {
        for (list, weak, strong) in [
            ("\"v2\"", true, true),
            ("W/\"v2\"", true, false),
            ("*", true, true),
            (" * ", true, true),
            ("\"v1\", \"v2\"", true, true),
            ("\"v1\",,\tW/\"v2\" , \"v3\"", true, false),
            ("\"v1,\", \"v2\"", true, true),
            ("nonsense, \"v2\"", true, true),
            ("\"v1\"", false, false),
            ("\"v1\", \"V2\"", false, false),
            ("\"v2", false, false),
            ("v2", false, false),
            ("w/\"v2\"", false, false),
            ("\"a \"v2\"", false, false),
            ("\"*\"", false, false),
            ("", false, false),
            (",", false, false),
        ] {
            assert_eq!(names(list, TAG, Comparison::Weak), weak, "{list}");
            assert_eq!(names(list, TAG, Comparison::Strong), strong, "{list}");
        }
    }

    #[test]
    fn conditions_are_evaluated_in_their_order() {
        let tags = |tags: &str| Some(tags.to_owned());
        let none = Conditions::default;
        for (conditions, wanted) in [
            (none(), Wanted::Whole),
            (Conditions { if_none_match: tags("W/\"v2\""), ..none() }, Wanted::NotModified),
            (Conditions { if_none_match: tags("\"v1\""), if_modified_since: date(5_000.0), ..none() }, Wanted::Whole),
            (Conditions { if_modified_since: date(1_000.0), ..none() }, Wanted::NotModified),
            (Conditions { if_modified_since: date(999.0), ..none() }, Wanted::Whole),
            (Conditions { if_modified_since: tags("yesterday"), ..none() }, Wanted::Whole),
            (Conditions { if_match: tags("\"v1\""), ..none() }, Wanted::PreconditionFailed),
            (Conditions { if_match: tags("W/\"v2\""), ..none() }, Wanted::PreconditionFailed),
            (Conditions { if_match: tags("*"), if_unmodified_since: date(1.0), ..none() }, Wanted::Whole),
            (Conditions { if_unmodified_since: date(999.0), ..none() }, Wanted::PreconditionFailed),
            (Conditions { if_unmodified_since: date(1_000.0), ..none() }, Wanted::Whole),
            (Conditions { if_match: tags(TAG), if_none_match: tags(TAG), ..none() }, Wanted::NotModified),
            (Conditions { range: tags("bytes=2-3"), ..none() }, Wanted::Part(2..4)),
            (Conditions { range: tags("bytes=2-3"), if_none_match: tags(TAG), ..none() }, Wanted::NotModified),
            (Conditions { range: tags("bytes=2-3"), if_range: tags(TAG), ..none() }, Wanted::Part(2..4)),
            (Conditions { range: tags("bytes=2-3"), if_range: tags("W/\"v2\""), ..none() }, Wanted::Whole),
            (Conditions { range: tags("bytes=2-3"), if_range: tags("\"v1\""), ..none() }, Wanted::Whole),
            (Conditions { range: tags("bytes=2-3"), if_range: date(1_000.0), ..none() }, Wanted::Part(2..4)),
            (Conditions { range: tags("bytes=2-3"), if_range: date(1_001.0), ..none() }, Wanted::Whole),
            (Conditions { range: tags("bytes=99-"), if_range: tags("\"v1\""), ..none() }, Wanted::Whole),
            (Conditions { range: tags("bytes=99-"), ..none() }, Wanted::RangeNotSatisfiable),
        ] {
            assert_eq!(evaluated(&conditions), wanted, "{conditions:?}");
        }
        let range = Conditions { range: tags("bytes=2-3"), ..none() };
        let version = Version { tag: TAG, modified: None, length: 10 };
        assert_eq!(range.evaluate(Method::Head, version, at(0.0)), Wanted::Whole);
        let fresh = Conditions { if_range: date(1_000.0), ..range };
        let version = Version { tag: TAG, modified: Some(at(1_000.1)), length: 10 };
        assert_eq!(fresh.evaluate(Method::Get, version, at(1_000.2)), Wanted::Whole, "it may change once more");
        let undated = Conditions { if_modified_since: date(5_000.0), if_unmodified_since: date(1.0), ..none() };
        assert_eq!(undated.evaluate(Method::Get, Version { modified: None, ..version }, at(0.0)), Wanted::Whole);
    }

    #[test]
    fn every_form_of_a_range_is_read() {
        for (range, wanted) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("Bytes=0-99", Wanted::Part(0..10)),
            ("bytes=9-", Wanted::Part(9..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-99", Wanted::Part(0..10)),
            ("bytes= ,1-2, ", Wanted::Part(1..3)),
            ("bytes=1-99999999999999999999999", Wanted::Part(1..10)),
            ("bytes=10-", Wanted::RangeNotSatisfiable),
            ("bytes=10-20", Wanted::RangeNotSatisfiable),
            ("bytes=99999999999999999999999-", Wanted::RangeNotSatisfiable),
            ("bytes=-0", Wanted::RangeNotSatisfiable),
            ("bytes=3-2", Wanted::Whole),
            ("bytes=0-1,4-5", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=1", Wanted::Whole),
            ("bytes 1-2", Wanted::Whole),
            ("seconds=1-2", Wanted::Whole),
        ] {
            assert_eq!(part(range, 10), wanted, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Wanted::RangeNotSatisfiable);
        assert_eq!(part("bytes=-1", 0), Wanted::Whole);
    }

    proptest! {
        /// A byte is in the part where the two numbers say so.
        #[test]
        fn a_range_has_the_bytes_between_its_ends(
            first in proptest::option::of(0_u64..40),
            last in proptest::option::of(0_u64..40),
            length in 0_u64..30,
        ) {
            let shown = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
            let range = format!("bytes={}-{}", shown(first), shown(last));
            let expected: Vec<u64> = (0..length).filter(|&at| match (first, last) {
                (Some(first), Some(last)) => first <= at && at <= last,
                (Some(first), None) => first <= at,
                (None, Some(last)) => at + last >= length,
                (None, None) => true,
            }).collect();
            let is_valid = first.is_some() || last.is_some();
            let is_valid = is_valid && first.zip(last).is_none_or(|(first, last)| first <= last);
            match part(&range, length) {
                Wanted::Part(part) => prop_assert!(is_valid && part.eq(expected)),
                Wanted::RangeNotSatisfiable => prop_assert!(is_valid && expected.is_empty()),
                wanted => prop_assert!(wanted == Wanted::Whole && (!is_valid || length == 0), "{range} of {length}"),
            }
        }

        #[test]
        fn a_list_has_the_tags_that_were_put_into_it(
            members in proptest::collection::vec((any::<bool>(), "[!a-c,*/W]{0,3}", "[ \t]{0,2}"), 0..5),
            tag in "[!a-c,*/W]{0,3}",
        ) {
            let written = |(is_weak, opaque, space): &(bool, String, String)| {
                format!("{space}{}\"{opaque}\"{space}", if *is_weak { "W/" } else { "" })
            };
            let list = members.iter().map(written).collect::<Vec<_>>().join(",");
            let quoted = format!("\"{tag}\"");
            let has = |strong: bool| members.iter().any(|(is_weak, opaque, _)| *opaque == tag && !(strong && *is_weak));
            prop_assert_eq!(names(&list, &quoted, Comparison::Weak), has(false), "{}", list);
            prop_assert_eq!(names(&list, &quoted, Comparison::Strong), has(true), "{}", list);
        }

        #[test]
        fn nothing_panics(range in "\\PC{0,40}", tags in "[\"W/*, é]{0,40}", length in any::<u64>()) {
            if let Wanted::Part(part) = part(&range.replace('é', "bytes="), length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
            names(&tags, TAG, Comparison::Weak);
        }
    }
}
