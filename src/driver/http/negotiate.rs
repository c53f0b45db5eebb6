//! Which content coding a request prefers (RFC 9110 §12.5.3).

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Coding {
    Identity,
    Gzip,
    Brotli,
}

impl Coding {
    /// As `Content-Encoding` names it.
    pub(in crate::driver) fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
        }
    }
}

/// The codings that an `Accept-Encoding` field allows, the preferred first; of those with the same weight, the smaller
/// first. Unless the field excludes it, `identity` is allowed as the last choice.
pub(super) fn acceptable(field: Option<&str>) -> Vec<Coding> {
    let Some(field) = field else { return vec![Coding::Identity] };
    let weight = |coding: Coding| match (weight(field, coding.name()), weight(field, "*")) {
        (Some(weight), _) | (None, Some(weight)) => 2 * weight,
        (None, None) => u16::from(coding == Coding::Identity),
    };
    let mut codings = vec![Coding::Brotli, Coding::Gzip, Coding::Identity];
    codings.retain(|coding| weight(*coding) > 0);
    codings.sort_by_key(|coding| std::cmp::Reverse(weight(*coding)));
    codings
}

/// The weight of a named coding, in thousandths.
fn weight(field: &str, coding: &str) -> Option<u16> {
    field.split(',').find_map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next()?.to_ascii_lowercase();
        let name = if name == "x-gzip" { "gzip" } else { &name };
        (name == coding).then(|| parts.find_map(quality).unwrap_or(1_000))
    })
}

/// A `q` (§12.4.2) in thousandths; `None` if it is invalid.
fn quality(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim_end().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, decimals) = value.trim_start().split_once('.').unwrap_or((value.trim_start(), ""));
    let is_short = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format!("{decimals:0<3}").parse().ok().filter(|_| is_short).unwrap_or_default();
    Some(match whole {
        "0" => thousandths,
        "1" if thousandths == 0 && is_short => 1_000,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_field_has_its_order() {
        const BR: Coding = Coding::Brotli;
        const GZIP: Coding = Coding::Gzip;
        const PLAIN: Coding = Coding::Identity;
        for (field, expected) in [
            ("gzip, deflate, br", &[BR, GZIP, PLAIN][..]),
            ("gzip, deflate, br, zstd", &[BR, GZIP, PLAIN]),
            ("GZip", &[GZIP, PLAIN]),
            ("x-gzip", &[GZIP, PLAIN]),
            ("", &[PLAIN]),
            ("deflate", &[PLAIN]),
            ("identity", &[PLAIN]),
            ("gzip;q=0", &[PLAIN]),
            ("gzip;q=0.000, br", &[BR, PLAIN]),
            ("gzip;q=1.0, br;q=0.5", &[GZIP, BR, PLAIN]),
            ("br;q=0.001", &[BR, PLAIN]),
            ("gzip;q=0.5, identity;q=0.6", &[PLAIN, GZIP]),
            ("identity;q=1, *;q=0", &[PLAIN]),
            ("identity;q=0, gzip", &[GZIP]),
            ("*", &[BR, GZIP, PLAIN]),
            ("*;q=0", &[]),
            ("*;q=0, gzip", &[GZIP]),
            ("gzip;q=0, *", &[BR, PLAIN]),
            ("identity;q=0, gzip;q=0", &[]),
            ("gzip ; Q = 0.2 , br ;q=0.1", &[GZIP, BR, PLAIN]),
            ("gzip;q=2", &[PLAIN]),
            ("gzip;q=1.001", &[PLAIN]),
            ("gzip;q=0.1234", &[PLAIN]),
            ("gzip;q=x", &[PLAIN]),
            ("gzip;q=-0.5", &[PLAIN]),
        ] {
            assert_eq!(acceptable(Some(field)), expected, "{field}");
        }
        assert_eq!(acceptable(None), [PLAIN], "who doesn't say that it decodes anything may not");
    }

    proptest! {
        #[test]
        fn what_is_refused_is_never_chosen(weights in proptest::collection::vec((0_usize..4, 0_u16..=1_000), 0..6)) {
            const NAMES: [&str; 4] = ["br", "gzip", "identity", "*"];
            let member = |(name, weight): &(usize, u16)| format!("{};q={}", NAMES[*name], f64::from(*weight) / 1_000.0);
            let field = weights.iter().map(member).collect::<Vec<_>>().join(", ");
            let said = |name: &str| weights.iter().find(|(at, _)| NAMES[*at] == name).map(|(_, weight)| *weight);
            let codings = acceptable(Some(&field));
            let weight = |coding: &Coding| said(coding.name()).or(said("*"));
            for coding in [Coding::Brotli, Coding::Gzip, Coding::Identity] {
                let expected = weight(&coding).map_or(coding == Coding::Identity, |weight| weight > 0);
                prop_assert_eq!(codings.contains(&coding), expected, "{:?} in {}", coding, field);
            }
            let order: Vec<u16> = codings.iter().map(|coding| weight(coding).unwrap_or_default()).collect();
            prop_assert!(order.is_sorted_by(|a, b| a >= b), "{field}");
        }

        #[test]
        fn nothing_panics(field in "\\PC{0,40}") {
            acceptable(Some(&field));
        }
    }
}
