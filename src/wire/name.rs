//! The display names of players and the titles of rooms.

use unicode_segmentation::UnicodeSegmentation;

use crate::limits::{PLAYER_NAME_BYTES, PLAYER_NAME_CHARS, PLAYER_NAME_CLUSTER, ROOM_TITLE_BYTES, ROOM_TITLE_CHARS};

/// The display name of a player whose name has no visible character.
const NAMELESS: &str = "player";
const BLACK_FLAG: char = '\u{1f3f4}';
const CANCEL_TAG: char = '\u{e007f}';
/// Tags between the black flag and the cancel tag: a region and its part, as in `gbeng`.
const FLAG_TAGS: usize = 6;

/// The role of a character in a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Visible,
    /// Joins its neighbours, or keeps them apart.
    Joiner,
    /// Selects a form of the character before it.
    Selector,
    /// Spells the region of a flag.
    Tag,
    /// Invisible, or reorders the text around it.
    Hidden,
}

fn role(c: char) -> Role {
    match c {
        '\u{200c}' | '\u{200d}' => Role::Joiner,
        '\u{fe00}'..='\u{fe0f}' | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{e0100}'..='\u{e01ef}' => Role::Selector,
        '\u{e0020}'..='\u{e007f}' => Role::Tag,
        // Line ends and annotations; the rest has the property Default_Ignorable_Code_Point.
        '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => Role::Hidden,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => Role::Hidden,
        '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => Role::Hidden,
        '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' => Role::Hidden,
        '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => Role::Hidden,
        _ if c.is_control() => Role::Hidden,
        _ => Role::Visible,
    }
}

fn is_joiner(c: char) -> bool {
    role(c) == Role::Joiner
}

/// Joiners between Latin letters are invisible, so that two different names would look the same.
fn is_joinable(c: char) -> bool {
    role(c) == Role::Visible && !c.is_ascii() && !c.is_whitespace()
}

fn has_forms(c: char) -> bool {
    is_joinable(c) || c.is_ascii_digit() || matches!(c, '#' | '*')
}

/// The display name: the visible characters of a name, truncated to its limits at a character, never empty.
pub(crate) fn shown(name: Option<&str>) -> String {
    truncated(name.unwrap_or_default(), PLAYER_NAME_CHARS, PLAYER_NAME_BYTES).unwrap_or_else(|| NAMELESS.to_owned())
}

/// The visible characters of a room's title, truncated to its limits at a character; `None` if there are none.
pub(crate) fn title(title: &str) -> Option<String> {
    truncated(title, ROOM_TITLE_CHARS, ROOM_TITLE_BYTES)
}

fn truncated(text: &str, chars: usize, bytes: usize) -> Option<String> {
    // More would be truncated anyway.
    let visible = visible(text.chars().take(4 * chars * PLAYER_NAME_CLUSTER));
    let mut shown = String::new();
    for cluster in visible.trim().graphemes(true).take(chars) {
        let cut = cluster.char_indices().nth(PLAYER_NAME_CLUSTER);
        let cluster = cut.map_or(cluster, |(at, _)| cluster[..at].trim_end_matches(is_joiner));
        if shown.len() + cluster.len() > bytes {
            break;
        }
        shown.push_str(cluster);
    }
    let shown = shown.trim_end_matches(is_joiner).trim_end();
    (!shown.is_empty()).then(|| shown.to_owned())
}

/// The text without invisible and reordering characters, with joiners, selectors and tags only where they are valid.
fn visible(text: impl Iterator<Item = char>) -> String {
    let mut visible = String::new();
    let mut rest = text.filter(|&c| role(c) != Role::Hidden).peekable();
    let mut last = None;
    while let Some(c) = rest.next() {
        let is_kept = match role(c) {
            Role::Visible => true,
            Role::Selector => last.is_some_and(has_forms),
            Role::Joiner => {
                let joins = |c: char| is_joinable(c) || matches!(role(c), Role::Selector | Role::Tag);
                last.is_some_and(joins) && rest.peek().is_some_and(|&next| is_joinable(next))
            }
            Role::Tag | Role::Hidden => false,
        };
        if !is_kept {
            continue;
        }
        visible.push(c);
        last = Some(c);
        if c == BLACK_FLAG {
            let region: Vec<char> = std::iter::from_fn(|| rest.next_if(|&c| role(c) == Role::Tag)).collect();
            if let [tags @ .., CANCEL_TAG] = region.as_slice()
                && (1..=FLAG_TAGS).contains(&tags.len())
                && !tags.contains(&CANCEL_TAG)
            {
                visible.extend(&region);
                last = Some(CANCEL_TAG);
            }
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    const FAMILY: &str =
        "\u{1f468}\u{1f3fb}\u{200d}\u{1f469}\u{1f3fc}\u{200d}\u{1f467}\u{1f3fd}\u{200d}\u{1f466}\u{1f3fe}";
    const ENGLAND: &str = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";

    #[test]
    fn names_keep_what_joins() {
        for name in [
            "Ada",
            "日本 ∆ 🦀",
            FAMILY,
            ENGLAND,
            "\u{1f3f4}\u{200d}\u{2620}\u{fe0f}",
            "\u{2764}\u{fe0f}\u{200d}\u{1f525}",
            "7\u{fe0f}\u{20e3}",
            // Persian "I want", whose parts the non-joiner keeps apart; Sinhala "Sri", whose parts the joiner joins.
            "می\u{200c}خواهم",
            "ශ\u{0dca}\u{200d}ර\u{0dd3}",
            "葛\u{e0100}城",
            "e\u{301}",
        ] {
            assert_eq!(shown(Some(name)), name, "{name:?}");
        }
    }

    #[test]
    fn names_are_shown_without_what_cannot_be_seen() {
        for (name, expected) in [
            ("  Ada \n", "Ada"),
            ("a\u{0}\u{7f}\u{85}b\r\n\tc", "abc"),
            ("\u{202e}evil\u{2066}\u{2069}\u{200f}\u{61c}", "evil"),
            ("\u{200b}\u{2060}\u{ad}\u{feff}\u{180e}\u{3164}\u{ffa0}\u{115f}\u{2065}\u{e0fff}\u{fff0}", NAMELESS),
            ("\u{200d}", NAMELESS),
            ("\u{200c}\u{200d}\u{fe0f}\u{e0067}\u{e007f}", NAMELESS),
            ("\u{2028}", NAMELESS),
            ("", NAMELESS),
            (" \u{3000} ", NAMELESS),
            ("A\u{200c}d\u{200d}a\u{fe0f}", "Ada"),
            ("می\u{200c}", "می"),
            ("می\u{200c}\u{200c}خ", "می\u{200c}خ"),
            ("\u{1f468}\u{200d} \u{1f467}", "\u{1f468} \u{1f467}"),
            ("\u{1f468}\u{200b}\u{200d}\u{1f467}", "\u{1f468}\u{200d}\u{1f467}"),
            ("\u{2764}\u{fe0f}\u{fe0f}", "\u{2764}\u{fe0f}"),
            ("\u{1f980}\u{e0067}\u{e007f}", "\u{1f980}"),
            ("\u{1f3f4}\u{e0067}\u{e0062}", "\u{1f3f4}"),
            ("\u{1f3f4}\u{e007f}", "\u{1f3f4}"),
            ("\u{1f3f4}\u{e0067}\u{e0067}\u{e0067}\u{e0067}\u{e0067}\u{e0067}\u{e0067}\u{e007f}", "\u{1f3f4}"),
        ] {
            assert_eq!(shown(Some(name)), expected, "{name:?}");
        }
        assert_eq!(shown(None), NAMELESS);
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(shown(Some(&"x".repeat(33))), "x".repeat(32));
        assert_eq!(shown(Some(&"e\u{301}".repeat(33))), "e\u{301}".repeat(32));
        // Each has 28 bytes, of 128.
        assert_eq!(shown(Some(&ENGLAND.repeat(9))), ENGLAND.repeat(4));
        let spaced = format!("{} {}", "x".repeat(31), "y");
        assert_eq!(shown(Some(&spaced)), "x".repeat(31));
        let parted = format!("{}\u{200c}خ", "م".repeat(32));
        assert_eq!(shown(Some(&parted)), "م".repeat(32));
        let stacked = format!("a{}b", "\u{36f}".repeat(500));
        assert_eq!(shown(Some(&stacked)), format!("a{}b", "\u{36f}".repeat(11)));
        let chained = "\u{1f980}\u{200d}".repeat(50);
        assert_eq!(shown(Some(&chained)), "\u{1f980}\u{200d}".repeat(6).trim_end_matches('\u{200d}'));
    }

    #[test]
    fn a_title_is_longer_than_a_name_and_may_be_absent() {
        assert_eq!(title(" Chess\u{202e}, live\n"), Some("Chess, live".to_owned()));
        assert_eq!(title(&"x".repeat(65)), Some("x".repeat(64)));
        assert_eq!(title(&ENGLAND.repeat(10)), Some(ENGLAND.repeat(9)), "each has 28 bytes, of 256");
        for nothing in ["", " \u{200b}\n"] {
            assert_eq!(title(nothing), None, "{nothing:?}");
        }
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
        })]

        #[test]
        fn any_name_is_within_its_limits_and_stays_as_it_is_shown(
            name in "[\\PCa\u{200b}-\u{200f}\u{202a}-\u{202e}\u{301}\u{fe0f}\u{1f3f4}\u{e0061}-\u{e007f}]{0,80}",
        ) {
            let shown = shown(Some(&name));
            prop_assert!((1..=PLAYER_NAME_BYTES).contains(&shown.len()));
            prop_assert!(shown.chars().all(|c| role(c) != Role::Hidden));
            prop_assert!(!shown.starts_with(|c| role(c) != Role::Visible));
            prop_assert!(shown.graphemes(true).count() <= PLAYER_NAME_CHARS);
            prop_assert_eq!(super::shown(Some(&shown)), shown);
        }
    }
}
