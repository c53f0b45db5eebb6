//! What is read off the server's process, and off the messages that arrive.

use std::fs;
use std::io;

use serde::Serialize;

/// A process, looked at from outside.
#[derive(Clone, Copy)]
pub struct Process(pub u32);

/// Memory of a process.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub rss_bytes: u64,
    /// Where the kernel tells.
    pub pss_bytes: Option<u64>,
}

/// What went into a network.
#[derive(Clone, Copy)]
pub struct Traffic {
    /// IP headers included.
    pub bytes: u64,
    pub packets: u64,
}

impl Process {
    /// CPU time of all its threads in nanoseconds: utime and stime, before they are rounded to clock ticks.
    pub fn cpu_ns(self) -> io::Result<u64> {
        let mut total = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.0))? {
            // A thread that ended in between is passed over.
            let Ok(line) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            total += line.split(' ').next().and_then(|run| run.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(total)
    }

    /// What all processes in its network namespace sent to the link, a TUN device: nothing but IP packets, as they are
    /// on the way, before any is lost.
    pub fn sent(self) -> io::Result<Traffic> {
        let devices = fs::read_to_string(format!("/proc/{}/net/dev", self.0))?;
        let link = devices.lines().find_map(|line| line.trim().strip_prefix("link:")).ok_or(io::ErrorKind::NotFound)?;
        let mut sent = link.split_whitespace().skip(8).map(str::parse);
        let mut next = || sent.next().and_then(Result::ok).ok_or(io::ErrorKind::InvalidData);
        Ok(Traffic { bytes: next()?, packets: next()? })
    }

    pub fn memory(self) -> io::Result<Memory> {
        let kib = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
        };
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0)).unwrap_or_default();
        Ok(Memory {
            rss_bytes: kib(&status, "VmRSS:").ok_or(io::ErrorKind::NotFound)?,
            pss_bytes: kib(&rollup, "Pss:"),
        })
    }
}

/// How much of something took how long: bins of a tenth of a millisecond, weighted.
#[derive(Clone)]
pub struct Histogram {
    bins: Vec<u64>,
    total: u64,
}

const BIN_US: u64 = 100;
const BINS: usize = 300_000;

#[derive(Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { bins: vec![0; BINS], total: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, us: u64, weight: u64) {
        let bin = usize::try_from(us / BIN_US).unwrap_or(BINS).min(BINS - 1);
        self.bins[bin] += weight;
        self.total += weight;
    }

    /// Adds every age between two, as often as it was lived through.
    pub fn add_range(&mut self, from_us: u64, to_us: u64) {
        let mut at = from_us;
        while at < to_us {
            let end = ((at / BIN_US + 1) * BIN_US).min(to_us);
            self.add(at, end - at);
            at = end;
        }
    }

    /// In milliseconds, to the upper edge of the bin.
    pub fn quantile(&self, q: f64) -> f64 {
        let wanted = (self.total as f64 * q).ceil() as u64;
        let mut seen = 0;
        let found = self.bins.iter().position(|&count| {
            seen += count;
            seen >= wanted.max(1)
        });
        found.map_or(0.0, |bin| ((bin + 1) * BIN_US as usize) as f64 / 1000.0)
    }

    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.quantile(1.0),
        }
    }
}
