//! Texts with placeholders that are filled in for each user: `{{ name }}`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::read::duration_of;

/// Maximum number of placeholders in a template.
const PLACES: usize = 64;
/// Maximum characters of a random text.
const RANDOM_CHARS: usize = 16 * 1024;
/// Characters of a random text without a length.
const RANDOM_CHARS_DEFAULT: usize = 10;
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A text with placeholders, filled in by [`Variables::fill`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(String),
    RandomString(usize),
    RandomNumber(i64, i64),
    Uuid,
}

impl Template {
    /// Parses `text`, with at most 64 placeholders.
    ///
    /// # Errors
    /// A sentence about the invalid placeholder.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, place)) = rest.split_once("{{") {
            let Some((place, after)) = place.split_once("}}") else {
                return Err("a \"{{\" has no \"}}\"".to_owned());
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::parse(place.trim())?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.iter().filter(|part| !matches!(part, Part::Text(_))).count() > PLACES {
            return Err(format!("a text may have at most {PLACES} placeholders"));
        }
        Ok(Template(parts))
    }

    /// Returns whether it contains random values.
    pub(super) fn is_drawn(&self) -> bool {
        self.0.iter().any(|part| !matches!(part, Part::Text(_) | Part::Name(_)))
    }

    /// Returns the names of its variables.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| if let Part::Name(name) = part { Some(name.as_str()) } else { None })
    }
}

impl Part {
    fn parse(place: &str) -> Result<Part, String> {
        let (name, arguments) = match place.split_once('(') {
            Some((name, rest)) => {
                let inside = rest.strip_suffix(')').ok_or_else(|| unreadable(place))?;
                let arguments = inside.split(',').map(str::trim).filter(|argument| !argument.is_empty());
                let arguments = arguments.map(|argument| argument.parse::<i64>().map_err(|_| unreadable(place)));
                (name.trim(), Some(arguments.collect::<Result<Vec<i64>, String>>()?))
            }
            None => (place, None),
        };
        match (name, arguments.as_deref()) {
            ("$randomString", None | Some([])) => Ok(Part::RandomString(RANDOM_CHARS_DEFAULT)),
            ("$randomString", Some(&[chars])) => match usize::try_from(chars) {
                Ok(chars @ 1..=RANDOM_CHARS) => Ok(Part::RandomString(chars)),
                _ => Err(format!("a random string may have 1 to {RANDOM_CHARS} characters, not {chars}")),
            },
            ("$randomNumber", Some(&[least, most])) if least <= most => Ok(Part::RandomNumber(least, most)),
            ("$randomNumber" | "$randomString", _) => Err(format!(
                "{place:?} is invalid: expected $randomString(CHARACTERS) or $randomNumber(LEAST, MOST), both included"
            )),
            ("$uuid", None | Some([])) => Ok(Part::Uuid),
            (name, None) if is_name(name) => Ok(Part::Name(name.to_owned())),
            _ => Err(unreadable(place)),
        }
    }
}

fn is_name(name: &str) -> bool {
    let name = name.strip_prefix('$').unwrap_or(name);
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    name.split('.').all(is_word)
}

fn unreadable(place: &str) -> String {
    let place: String = place.chars().take(40).collect();
    format!("{place:?} is invalid: expected the name of a variable, $randomString(10), $randomNumber(1, 6), $uuid")
}

/// The variables of a virtual user, for filling in templates. The same seed and user give the same values.
#[derive(Clone, Debug)]
pub struct Variables {
    values: BTreeMap<String, Value>,
    rng: ChaCha8Rng,
}

impl Variables {
    pub(super) fn new(rng: ChaCha8Rng) -> Variables {
        Variables { values: BTreeMap::new(), rng }
    }

    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.rng.random_range(0..count.max(1))
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// Returns the text of a template. A variable without a value becomes empty.
    pub fn fill(&mut self, template: &Template) -> String {
        let mut text = String::new();
        for part in &template.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                _ => match self.value(part).as_ref() {
                    Value::Null => {}
                    Value::String(value) => text.push_str(value),
                    other => text.push_str(&other.to_string()),
                },
            }
        }
        text
    }

    /// Fills in every text in a value. A text that consists of a single placeholder becomes its value, so that `"{{
    /// $randomNumber(1, 6) }}"` is a number.
    pub fn fill_value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.contains("{{") => match Template::parse(text) {
                Ok(Template(parts)) => match parts.as_slice() {
                    [part] => self.value(part).into_owned(),
                    _ => Value::String(self.fill(&Template(parts))),
                },
                // Rejected when the script is read.
                Err(_) => value.clone(),
            },
            Value::Array(values) => values.iter().map(|value| self.fill_value(value)).collect(),
            Value::Object(fields) => {
                let filled = fields.iter().map(|(name, value)| (name.clone(), self.fill_value(value)));
                Value::Object(filled.collect())
            }
            other => other.clone(),
        }
    }

    /// Returns the duration, or `None` if the template's value is not a duration.
    pub fn span(&mut self, span: &Span) -> Option<Duration> {
        match span {
            Span::Fixed(duration) => Some(*duration),
            Span::Between(least, most) => Some(self.rng.random_range(*least..=(*most).max(*least))),
            Span::Filled(template) => {
                let text = self.fill(template);
                duration_of(&text).ok()
            }
        }
    }

    fn value(&mut self, part: &Part) -> Cow<'_, Value> {
        match part {
            Part::Text(text) => Cow::Owned(Value::String(text.clone())),
            Part::Name(name) => self.named(name).map_or(Cow::Owned(Value::Null), Cow::Borrowed),
            Part::RandomString(chars) => Cow::Owned(Value::String(
                (0..*chars).map(|_| char::from(LETTERS[self.rng.random_range(0..LETTERS.len())])).collect(),
            )),
            Part::RandomNumber(least, most) => Cow::Owned(self.rng.random_range(*least..=*most).into()),
            Part::Uuid => Cow::Owned(Value::String(uuid(self.rng.random()))),
        }
    }

    /// Returns the variable `user.name`, or else the field `name` of the variable `user`.
    fn named(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| {
            let (variable, path) = name.split_once('.')?;
            path.split('.').try_fold(self.values.get(variable)?, |value, field| value.get(field))
        })
    }
}

/// Formats a version 4 UUID (RFC 9562 §5.4).
fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A duration, possibly different each time ([`Variables::span`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// A fixed duration.
    Fixed(Duration),
    /// A random duration in this range, both ends included.
    Between(Duration, Duration),
    /// The value of a template, a number of seconds or a text such as `500ms`.
    Filled(Template),
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use serde_json::json;

    use super::*;

    fn variables(seed: u64) -> Variables {
        let mut variables = Variables::new(ChaCha8Rng::seed_from_u64(seed));
        variables.set("name", json!("Ann"));
        variables.set("age", json!(7));
        variables.set("user", json!({ "of": { "page": "x" } }));
        variables.set("$env.A", json!("{{ name }}"));
        variables
    }

    fn fill(text: &str) -> String {
        variables(1).fill(&Template::parse(text).expect(text))
    }

    #[test]
    fn places_are_filled() {
        for (text, expected) in [
            ("", ""),
            ("plain } text {", "plain } text {"),
            ("{{ name }}", "Ann"),
            ("{{name}}{{age}}!", "Ann7!"),
            ("a {{ user.of.page }} {{ user.of }}", "a x {\"page\":\"x\"}"),
            ("<{{ nobody }}>", "<>"),
            ("<{{ name.first }}>", "<>"),
            ("{{ $randomNumber(3, 3) }}", "3"),
            ("{{ $env.A }}", "{{ name }}"),
        ] {
            assert_eq!(fill(text), expected, "{text}");
        }
        assert_eq!(fill("{{ $randomString }}").len(), 10);
        assert_eq!(fill("{{ $randomString( 33 ) }}").len(), 33);
        let uuid = fill("{{ $uuid() }}");
        let lengths: Vec<_> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
        assert!(uuid[14..].starts_with('4') && "89ab".contains(&uuid[19..20]), "{uuid}");
    }

    #[test]
    fn values_keep_their_kind_and_seeds_repeat() {
        let value = json!({ "a": ["{{ age }}", "{{ age }} years", 1, null], "b": "{{ $randomNumber(-5, 5) }}" });
        let filled = variables(1).fill_value(&value);
        assert_eq!(filled["a"], json!([7, "7 years", 1, null]));
        assert!((-5..=5).contains(&filled["b"].as_i64().expect("a number")));
        let text = Template::parse("{{ $uuid }} {{ $randomString }}").expect("it can be read");
        assert_eq!(variables(1).fill(&text), variables(1).fill(&text));
        assert_ne!(variables(1).fill(&text), variables(2).fill(&text));
        assert_eq!(variables(1).fill_value(&json!("{{ $env.A }}")), json!("{{ name }}"), "filled once");
    }

    #[test]
    fn spans_are_drawn() {
        let mut variables = variables(1);
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(12));
        for _ in 0..100 {
            let drawn = variables.span(&Span::Between(least, most)).expect("it is a duration");
            assert!((least..=most).contains(&drawn));
        }
        let filled = |text: &str| Span::Filled(Template::parse(text).expect(text));
        assert_eq!(variables.span(&filled("{{ age }}")), Some(Duration::from_secs(7)));
        assert_eq!(variables.span(&filled("{{ age }}ms")), Some(Duration::from_millis(7)));
        assert_eq!(variables.span(&filled("{{ name }}")), None);
    }

    #[test]
    fn what_cannot_be_filled_is_refused() {
        for text in [
            "{{ name",
            "{{ }}",
            "{{ a b }}",
            "{{ name.toUpperCase() }}",
            "{{ $randomNumber }}",
            "{{ $randomNumber(2, 1) }}",
            "{{ $randomNumber(1 }}",
            "{{ $randomNumber(99999999999999999999, 1) }}",
            "{{ $randomString(0) }}",
            "{{ $randomString(-1) }}",
            "{{ $randomString(20000) }}",
            "{{ $randomString(1, 2) }}",
            "{{ a..b }}",
            "{{ $uuid(4) }}",
        ] {
            Template::parse(text).expect_err(text);
        }
        Template::parse(&"{{ a }}".repeat(PLACES)).expect("as many as may be");
        Template::parse(&"{{ a }}".repeat(PLACES + 1)).expect_err("one more");
    }
}
