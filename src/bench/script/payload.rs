//! Rows of CSV files, of which each user gets one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Variables;

/// Maximum bytes of a file.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Maximum rows of a file.
const ROWS: usize = 1_000_000;

/// A CSV file whose columns become variables.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// The path of the file.
    pub path: PathBuf,
    /// Names of its first columns; further columns are ignored.
    pub fields: Vec<String>,
    /// The assignment of rows to users.
    pub order: Order,
    /// Whether to skip the first line.
    pub has_header: bool,
    /// The separator of columns.
    pub delimiter: u8,
    rows: Vec<csv::StringRecord>,
}

/// The assignment of rows to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The nth user gets the nth row, starting over after the last.
    Sequence,
    /// Each user gets a random row.
    Random,
}

impl Payload {
    pub(super) fn new(path: PathBuf, fields: Vec<String>) -> Payload {
        Payload { path, fields, order: Order::Random, has_header: false, delimiter: b',', rows: Vec::new() }
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Reads the file: at most 64 MiB and a million rows.
    pub(super) fn load(&mut self, directory: &Path) -> Result<(), String> {
        self.path = directory.join(&self.path);
        let name = self.path.display().to_string();
        let file = open(&self.path, FILE_BYTES).map_err(|error| format!("{name} can't be read: {error}"))?;
        self.take(file).map_err(|sentence| format!("{name}: {sentence}"))
    }

    fn take(&mut self, file: impl Read) -> Result<(), String> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(self.has_header)
            .delimiter(self.delimiter)
            .flexible(true)
            .from_reader(file);
        self.rows.clear();
        for row in reader.records() {
            let row = row.map_err(|error| format!("it is not valid CSV: {error}"))?;
            let line = row.position().map_or(0, csv::Position::line);
            if row.len() < self.fields.len() {
                return Err(format!("line {line} has {} columns, but {} have names", row.len(), self.fields.len()));
            }
            if self.rows.len() == ROWS {
                return Err(format!("it has more than {ROWS} rows"));
            }
            self.rows.push(row);
        }
        if self.rows.is_empty() { Err("it has no rows".to_owned()) } else { Ok(()) }
    }

    /// Sets the variables from the user's row.
    pub(super) fn set(&self, user: u64, variables: &mut Variables) {
        let count = self.rows.len();
        let row = match self.order {
            Order::Sequence => user.checked_rem(count as u64).and_then(|row| usize::try_from(row).ok()).unwrap_or(0),
            Order::Random => variables.pick(count),
        };
        let Some(row) = self.rows.get(row) else { return };
        for (name, text) in self.fields.iter().zip(row) {
            variables.set(name, value(text));
        }
    }
}

/// Opens a regular file: reading a pipe or a device might never end.
pub(super) fn open(path: &Path, most_bytes: u64) -> io::Result<impl Read + use<>> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > most_bytes {
        return Err(io::Error::other(format!("it has {} bytes; the limit is {most_bytes}", metadata.len())));
    }
    Ok(File::open(path)?.take(most_bytes))
}

/// Converts to a number if formatting it gives the same text: `7` but not `007`.
fn value(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => {
            let again = value.to_string();
            if again == text { value } else { Value::from(text) }
        }
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use serde_json::json;

    use super::super::Template;
    use super::*;

    fn payload() -> Payload {
        Payload::new("users.csv".into(), vec!["name".to_owned(), "id".to_owned()])
    }

    fn seen(payload: &Payload, user: u64) -> Value {
        let mut variables = Variables::new(ChaCha8Rng::seed_from_u64(user));
        payload.set(user, &mut variables);
        variables.fill_value(&json!(["{{ name }}", "{{ id }}"]))
    }

    #[test]
    fn each_user_gets_a_row() {
        let mut payload = payload();
        payload.take(b"Ann,1\n\"B, ob\",007,more\nCy,true\n".as_slice()).expect("it is CSV");
        payload.order = Order::Sequence;
        let rows = [json!(["Ann", 1]), json!(["B, ob", "007"]), json!(["Cy", true])];
        for user in 0..7 {
            assert_eq!(seen(&payload, user), rows[usize::try_from(user).expect("small") % 3]);
        }
        payload.order = Order::Random;
        let found: Vec<_> = (0..50).map(|user| seen(&payload, user)).collect();
        assert!(rows.iter().all(|row| found.contains(row)), "{found:?}");
        assert_eq!(seen(&payload, 9), seen(&payload, 9));
        (payload.has_header, payload.delimiter) = (true, b';');
        payload.take(b"a;b\nAnn;1".as_slice()).expect("it is CSV");
        assert_eq!((payload.rows(), seen(&payload, 5)), (1, json!(["Ann", 1])));
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused() {
        for (csv, expected) in [
            (b"".as_slice(), "it has no rows"),
            (b"a,b\nc\n", "line 2 has 1 columns, but 2 have names"),
            (b"a,\xff", "it is not valid CSV"),
        ] {
            let sentence = payload().take(csv).expect_err(expected);
            assert!(sentence.contains(expected), "{sentence}");
        }
        let sentence = payload().load(Path::new("/nowhere")).expect_err("there is none");
        assert!(sentence.starts_with("/nowhere/users.csv can't be read: "), "{sentence}");
        let mut directory = Payload { path: ".".into(), ..payload() };
        assert!(directory.load(Path::new("/")).expect_err("no file").contains("it is not a regular file"));
        let rows = "a,b\n".repeat(ROWS);
        payload().take(rows.as_bytes()).expect("as many as may be");
        assert!(payload().take((rows + "a,b").as_bytes()).expect_err("one more").contains("more than"));
    }

    #[test]
    fn without_rows_nothing_is_filled() {
        let mut variables = Variables::new(ChaCha8Rng::seed_from_u64(1));
        payload().set(3, &mut variables);
        assert_eq!(variables.fill(&Template::parse("<{{ name }}>").expect("it can be read")), "<>");
    }
}
