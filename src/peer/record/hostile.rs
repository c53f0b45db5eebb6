//! Attacks on the records between two ends, and the invariants that must hold.

use std::collections::BTreeSet;
use std::time::Instant;

use super::*;

const STEPS_MAX: usize = 256;
const SENT_MAX: usize = 64;
const DATAGRAM_BYTES_MAX: usize = 4096;

/// Two ends that send each other records, which arrive in any order, repeated, damaged, cut, joined, or forged.
pub(crate) fn records(_: Instant, input: &[u8]) {
    let mut script = Script(input);
    let suite = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305][usize::from(script.byte()) % 3];
    let mut ends = [Watched::new(suite, 0), Watched::new(suite, 1)];
    for _ in 0..STEPS_MAX {
        if script.0.is_empty() {
            return;
        }
        let step = script.byte();
        let end = usize::from(step >> 7);
        if step & 0x60 == 0 {
            ends[end].seal(&mut script);
            continue;
        }
        let [one, other] = &mut ends;
        let (from, to) = if end == 0 { (one, other) } else { (other, one) };
        let mut datagram = Vec::new();
        for _ in 0..=step & 3 {
            from.write_hostile(&mut script, &mut datagram);
        }
        to.handle(&datagram, &from.sent);
    }
}

impl Suite {
    /// The records of one of the two ends of a connection with this suite.
    pub(super) fn records(self, end: usize) -> Records {
        let key = |of: usize| {
            let bytes = [[7_u8; 32], [9; 32]][of];
            let key = UnboundKey::new(self.algorithm(), &bytes[..self.algorithm().key_len()]);
            LessSafeKey::new(key.expect("a key of the right length"))
        };
        let iv = |of: usize| {
            let mut iv = [[1_u8; NONCE_BYTES], [2; NONCE_BYTES]][of];
            iv[NONCE_BYTES - self.explicit_nonce_bytes()..].fill(0);
            iv
        };
        Records {
            suite: self,
            sealing: Sealing { key: key(end), iv: iv(end), next: 1, left_out: vec![3] },
            opening: Opening { key: key(1 - end), iv: iv(1 - end), window: Window::default(), forged: 0 },
        }
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    kind: u8,
    content: Vec<u8>,
    record: Vec<u8>,
}

/// An end that is held to its word.
struct Watched {
    records: Records,
    sent: Vec<Said>,
    nonces: BTreeSet<u64>,
    accepted: BTreeSet<u64>,
    plain: Vec<u8>,
}

impl Watched {
    fn new(suite: Suite, end: usize) -> Watched {
        Watched {
            records: suite.records(end),
            sent: Vec::new(),
            nonces: BTreeSet::new(),
            accepted: BTreeSet::new(),
            plain: Vec::new(),
        }
    }

    fn seal(&mut self, script: &mut Script<'_>) {
        if self.sent.len() == SENT_MAX {
            return;
        }
        let shape = script.byte();
        let kind = [content::APPLICATION_DATA, content::APPLICATION_DATA, content::ALERT, script.byte()]
            [usize::from(shape & 3)];
        let content = vec![script.byte(); usize::from(shape >> 2) * 20];
        // Numbers are left out as if other records had been lost.
        self.records.sealing.next += u64::from(script.byte()) * u64::from(shape & 1);
        let mut record = vec![shape; usize::from(shape)];
        let start = self.records.begin(&mut record);
        record.extend_from_slice(&content);
        self.records.seal(kind, start, &mut record).expect("there are numbers enough");
        let record = record.split_off(start);
        assert_eq!(record.len(), self.records.bytes(content.len()));
        assert_eq!(split(&record).collect::<Vec<_>>(), [&record[..]], "a record has its length");
        let sequence = sequence_of(&record);
        assert!(self.nonces.insert(sequence), "no nonce is used twice");
        assert_ne!(number_of(sequence), 3, "one of dimpl's is left out");
        self.sent.push(Said { kind, content, record });
    }

    /// Appends a record of this end, or what is nearly one.
    fn write_hostile(&mut self, script: &mut Script<'_>, datagram: &mut Vec<u8>) {
        let how = script.byte();
        let at = usize::from(script.byte());
        let mut record = match self.sent.get(at % self.sent.len().max(1)) {
            Some(said) if how & 0xf != 0xf => said.record.clone(),
            _ => script.bytes(at),
        };
        let place = usize::from(u16::from_be_bytes([script.byte(), script.byte()])) % record.len().max(1);
        match how >> 4 & 7 {
            0 | 1 => {}
            2 => {
                if let Some(byte) = record.get_mut(place) {
                    *byte ^= script.byte();
                }
            }
            3 => record.truncate(place),
            4 => record.extend(script.piece()),
            // A header of this end with other content, whose length is right.
            5 => {
                record.truncate(HEADER_BYTES);
                record.extend(script.piece());
                if let (Some(field), Ok(length)) =
                    (record.get(11..13).map(|_| 11..13), u16::try_from(record.len().saturating_sub(HEADER_BYTES)))
                {
                    record[field].copy_from_slice(&length.to_be_bytes());
                }
            }
            // The middle of another record.
            6 => {
                let other = self.sent.get(usize::from(script.byte()) % self.sent.len().max(1));
                if let Some(tail) = other.and_then(|other| other.record.get(place..)) {
                    record.truncate(place);
                    record.extend_from_slice(tail);
                }
            }
            _ => {
                if let Some(number) = record.get_mut(3..11) {
                    number[7] = script.byte();
                    number[1] ^= script.byte() & 3;
                }
            }
        }
        if datagram.len() + record.len() <= DATAGRAM_BYTES_MAX {
            datagram.extend_from_slice(&record);
        }
    }

    /// Gives it a datagram. It must take just what the other end has sent, once.
    fn handle(&mut self, datagram: &[u8], sent: &[Said]) {
        let mut bytes = 0;
        for record in split(datagram) {
            assert_eq!(record, &datagram[bytes..bytes + record.len()], "records stand one behind the other");
            bytes += record.len();
            let forged_before = self.records.opening.forged;
            let opened = self.records.open(record, &mut self.plain);
            let forged = self.records.opening.forged - forged_before;
            let said = sent.iter().find(|said| said.record == record);
            let highest = self.accepted.last().copied().unwrap_or(0);
            let number = number_of(sequence_of(record));
            let is_new = !self.accepted.contains(&number) && number + 128 > highest;
            let expected = match said.filter(|_| is_new) {
                Some(Said { kind: content::APPLICATION_DATA, content, .. }) => Opened::Data(content),
                Some(Said { kind: content::ALERT, content, .. }) => match content[..] {
                    [_, 0, ..] => Opened::CloseNotify,
                    [FATAL, _, ..] => Opened::FatalAlert,
                    _ => Opened::Nothing,
                },
                _ => Opened::Nothing,
            };
            assert_eq!(opened, expected, "{record:x?}");
            let is_authentic = said.is_some_and(|said| matches!(said.kind, content::ALERT | content::APPLICATION_DATA));
            assert!(forged == 0 || (forged == 1 && said.is_none()), "what is sent is no forgery");
            if is_new && is_authentic {
                self.accepted.insert(number);
            }
        }
        assert!(self.plain.len() <= DATAGRAM_BYTES_MAX, "what it keeps is bounded");
    }
}

fn sequence_of(record: &[u8]) -> u64 {
    record.get(3..11).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The bytes that drive an attack; zeros when they are used up.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// The next piece, which begins with its length.
    fn piece(&mut self) -> Vec<u8> {
        let most = usize::from(self.byte());
        self.bytes(most)
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}
