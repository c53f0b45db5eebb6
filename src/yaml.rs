//! YAML written by hand: keeps the place of every value, and suggests corrections in errors.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{Error, Spanned};

/// The maximum edit distance of a suggestion.
const TYPING_ERRORS: usize = 3;
/// The maximum number of values that aliases may stand for in a document.
const ALIASED: usize = 20_000;

/// Returns serde's error with its place, as a sentence; `variant` is the name for variants of its enums.
pub(crate) fn sentence(error: &Error, variant: &str) -> String {
    let error = error.without_snippet();
    let what = match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        Error::SerdeUnknownVariant { variant: name, expected, .. } => unknown(variant, name, expected),
        Error::Message { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    match error.location() {
        Some(at) if at.line() > 0 => {
            let place = format!("line {}, column {}", at.line(), at.column());
            // Some of serde's messages end with the place.
            let what = what.strip_suffix(&format!(" at {place}")).unwrap_or(&what);
            format!("{place}: {what}")
        }
        _ => what,
    }
}

/// Returns the error for an unknown name, with a suggestion and the known names.
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|&one| (strsim::damerau_levenshtein(one, name), one))
        .filter(|&(distance, one)| distance <= TYPING_ERRORS.min(one.chars().count() / 2))
        .min();
    let listed = known.join(", ");
    match nearest {
        _ if known.is_empty() => format!("there is no {what} {name:?}"),
        Some((_, nearest)) => format!("there is no {what} {name:?}; is it {nearest:?}? Known are {listed}"),
        None => format!("there is no {what} {name:?}; known are {listed}"),
    }
}

/// The place of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The name of the document, if there are several.
    document: Option<&'static str>,
    line: u64,
    column: u64,
}

impl Place {
    /// Returns an error sentence that begins with this place.
    pub(crate) fn mistake(self, sentence: impl fmt::Display) -> String {
        let Place { document, line, column } = self;
        let document = document.map(|name| format!("{name}, ")).unwrap_or_default();
        format!("{document}line {line}, column {column}: {sentence}")
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) key: String,
    pub(crate) value: Node,
}

impl Node {
    /// Parses a document, at most 64 levels deep. `document` is its name if there are several.
    ///
    /// # Errors
    /// The text is not valid YAML, or its aliases expand too far: a sentence with the place.
    pub(crate) fn parse(yaml: &str, document: Option<&'static str>) -> Result<Node, String> {
        let mut options = serde_saphyr::Options::default();
        // As in YAML 1.2, "y" and "no" are texts.
        options.strict_booleans = true;
        options.alias_limits.max_total_replayed_events = ALIASED;
        let mut node: Node = serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
            let sentence = sentence(&error, "value");
            document.map_or_else(|| sentence.clone(), |name| format!("{name}, {sentence}"))
        })?;
        if document.is_some() {
            node.name(document);
        }
        Ok(node)
    }

    fn name(&mut self, document: Option<&'static str>) {
        self.place.document = document;
        match &mut self.kind {
            Kind::List(nodes) => nodes.iter_mut().for_each(|node| node.name(document)),
            Kind::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.place.document = document;
                entry.value.name(document);
            }),
            _ => {}
        }
    }

    /// Replaces this value with `over`; maps are merged.
    pub(crate) fn merge(&mut self, over: Node) {
        match (&mut self.kind, over) {
            (Kind::Map(entries), Node { kind: Kind::Map(others), .. }) => {
                for other in others {
                    match entries.iter_mut().find(|entry| entry.key == other.key) {
                        Some(entry) => entry.value.merge(other.value),
                        None => entries.push(other),
                    }
                }
            }
            (_, over) => *self = over,
        }
    }

    pub(crate) fn mistake(&self, sentence: impl fmt::Display) -> String {
        self.place.mistake(sentence)
    }

    /// Returns the error that something else was expected here.
    pub(crate) fn unexpected(&self, expected: &str) -> String {
        let found = match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(value) => value.to_string(),
            Kind::Number(number) => number.to_string(),
            Kind::Text(text) if text.chars().count() <= 40 => format!("{text:?}"),
            Kind::Text(_) => "a long text".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        };
        self.mistake(format!("expected {expected}, but found {found}"))
    }

    /// Converts to JSON, with each text transformed by `text`.
    pub(crate) fn to_json(&self, text: &mut impl FnMut(&Node, &str) -> Result<(), String>) -> Result<Value, String> {
        Ok(match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(value) => {
                text(self, value)?;
                Value::String(value.clone())
            }
            Kind::List(nodes) => {
                Value::Array(nodes.iter().map(|node| node.to_json(text)).collect::<Result<_, String>>()?)
            }
            Kind::Map(entries) => {
                let entries = entries.iter().map(|entry| Ok((entry.key.clone(), entry.value.to_json(text)?)));
                Value::Object(entries.collect::<Result<_, String>>()?)
            }
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let Spanned { value: Bare(kind), referenced, .. } = Spanned::deserialize(deserializer)?;
        let place = Place { document: None, line: referenced.line(), column: referenced.column() };
        Ok(Node { place, kind })
    }
}

/// The content of a node.
struct Bare(Kind);

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Bare, D::Error> {
        deserializer.deserialize_any(BareVisitor).map(Bare)
    }
}

struct BareVisitor;

impl<'de> Visitor<'de> for BareVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Kind, E> {
        let number = Number::from_f64(value);
        number.map(Kind::Number).ok_or_else(|| E::custom(format!("{value} is not a finite number")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Kind::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Node>()? {
            let place = Place { document: None, line: key.referenced.line(), column: key.referenced.column() };
            entries.push(Entry { place, key: key.value, value });
        }
        Ok(Kind::Map(entries))
    }
}
