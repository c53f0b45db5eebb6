//! Fetches the server's metrics during a run.

#![expect(clippy::disallowed_methods, reason = "a thread of its own that may block")]

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::http;
use super::target::Target;
use super::tls::Trust;
use crate::driver::client::Response;

/// The timeout of a connection, and of a response.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a response.
const RESPONSE_BYTES: usize = 4 * 1024 * 1024;
/// Different metrics; further ones are ignored.
const METRICS: usize = 10_000;

/// Fetches the metrics once per interval and at the end, when the other end of `ended` is dropped. Without such a page
/// the report contains no metrics of the server.
pub(super) fn collect(
    url: &str,
    trust: &Trust,
    begun: Instant,
    interval: Duration,
    ended: &Receiver<()>,
) -> Vec<(Duration, BTreeMap<String, f64>)> {
    let mut scrapes = Vec::new();
    loop {
        let at = begun.elapsed();
        match fetch(url, trust) {
            Ok(metrics) if !metrics.is_empty() => scrapes.push((at, metrics)),
            Ok(_) => log::debug!("there are no metrics at {url}"),
            Err(error) => log::debug!("the metrics at {url} can't be fetched: {error}"),
        }
        let passed = u32::try_from(at.as_millis() / interval.as_millis()).unwrap_or(u32::MAX);
        let next = begun + interval.saturating_mul(passed.saturating_add(1));
        match ended.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {}
            _ if begun.elapsed() < at + Duration::from_secs(1) => return scrapes,
            _ => {
                let at = begun.elapsed();
                scrapes
                    .extend(fetch(url, trust).ok().filter(|metrics| !metrics.is_empty()).map(|metrics| (at, metrics)));
                return scrapes;
            }
        }
    }
}

fn fetch(url: &str, trust: &Trust) -> io::Result<BTreeMap<String, f64>> {
    let (target, mut stream) = Target::connect(url, trust, PATIENCE).map_err(io::Error::other)?;
    match http::get(&target, &mut stream, &target.path, RESPONSE_BYTES, PATIENCE)? {
        Response { status: 200, body } => Ok(parse(&String::from_utf8_lossy(&body))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Parses the Prometheus text format, `name{labels} value`, without comments and times.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let values = lines.filter_map(|line| {
        // Labels may contain spaces.
        let end = line.rfind('}').map_or_else(|| line.find(' '), |at| Some(at + 1))?;
        let (name, rest) = line.split_at(end);
        let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
        value.is_finite().then(|| (name.to_owned(), value))
    });
    values.take(METRICS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_name_with_labels() {
        let text = "# HELP a b\n# TYPE a gauge\na 1\nb{c=\"d e\",f=\"}\"} 2.5 1700000000\nc NaN\nd\n\ne 1e3\n";
        let expected = [("a", 1.0), ("b{c=\"d e\",f=\"}\"}", 2.5), ("e", 1_000.0)];
        assert_eq!(parse(text), expected.map(|(name, value)| (name.to_owned(), value)).into());
    }
}
