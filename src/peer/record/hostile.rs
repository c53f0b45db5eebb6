//! Attacks on the records between two ends, and the invariants that must hold.

use std::collections::BTreeSet;
use std::time::Instant;

use dimpl::crypto::aws_lc_rs;
use dimpl::{Config, Dtls, Output};

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
            ends[end].seal(&mut script, &[content::APPLICATION_DATA, content::ALERT]);
            continue;
        }
        let [one, other] = &mut ends;
        let (from, to) = if end == 0 { (one, other) } else { (other, one) };
        let mut datagram = Vec::new();
        for _ in 0..=step & 3 {
            write_hostile(&from.sent, &mut script, &mut datagram);
        }
        to.handle(&datagram, &from.sent);
    }
}

/// The same between an end whose keys were taken over from dimpl and dimpl. The handshake takes so long that the
/// connections are kept.
pub(crate) fn records_with_dimpl(now: Instant, input: &[u8]) {
    thread_local! {
        static TAKEN: RefCell<Vec<Taken>> = const { RefCell::new(Vec::new()) };
    }
    let mut script = Script(input);
    let suite = usize::from(script.byte()) % EACH_SUITE.len();
    TAKEN.with_borrow_mut(|taken| {
        if taken.is_empty() {
            taken.extend((0..EACH_SUITE.len()).map(|suite| Taken::new(suite, now)));
        }
        taken[suite].run(&mut script);
    });
}

pub(super) const EACH_SUITE: [&[&dyn SupportedDtls12CipherSuite]; 3] =
    [&[&Suite::Aes128Gcm], &[&Suite::Aes256Gcm], &[&Suite::ChaCha20Poly1305]];

/// An end of a connection in dimpl's hands.
pub(super) struct Dimpl {
    pub(super) dtls: Dtls,
    pub(super) keys: Vec<Key>,
    pub(super) received: Vec<Vec<u8>>,
    pub(super) is_connected: bool,
    pub(super) was_told_to_close: bool,
}

impl Dimpl {
    /// Without `suites` it has dimpl's own.
    pub(super) fn new(
        suites: Option<&'static [&'static dyn SupportedDtls12CipherSuite]>,
        is_active: bool,
        now: Instant,
    ) -> Dimpl {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = suites.unwrap_or(provider.cipher_suites);
        let config = Config::builder().use_server_cookie(false).with_crypto_provider(provider).build();
        let certificate = dimpl::certificate::generate_self_signed_certificate().expect("a certificate");
        let mut dtls = Dtls::new_12(Arc::new(config.expect("a configuration")), certificate, now);
        dtls.set_active(is_active);
        dtls.handle_timeout(now).expect("a beginning");
        Dimpl { dtls, keys: Vec::new(), received: Vec::new(), is_connected: false, was_told_to_close: false }
    }

    pub(super) fn poll(&mut self) -> Vec<Vec<u8>> {
        let (mut packets, mut buffer) = (Vec::new(), vec![0; DATAGRAM_BYTES_MAX]);
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => packets.push(packet.to_vec()),
                Output::ApplicationData(data) => self.received.push(data.to_vec()),
                Output::Connected => self.is_connected = true,
                Output::CloseNotify => self.was_told_to_close = true,
                Output::Timeout(_) => return packets,
                _ => {}
            }
        }
    }

    pub(super) fn handle(&mut self, packet: &[u8]) {
        let (handled, created) = created_by(|| self.dtls.handle_packet(packet));
        handled.expect("it goes on");
        self.keys.extend(created);
    }

    pub(super) fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        self.dtls.send_application_data(data).expect("it is connected");
        self.poll().concat()
    }

    pub(super) fn open(&mut self, record: &[u8]) -> Vec<Vec<u8>> {
        self.handle(record);
        assert!(self.poll().is_empty());
        std::mem::take(&mut self.received)
    }
}

/// An end with our suites, and one with dimpl's, whose handshake is done.
pub(super) fn connected(suite: usize, is_active: bool, now: Instant) -> [Dimpl; 2] {
    let mut ends = [Dimpl::new(Some(EACH_SUITE[suite]), is_active, now), Dimpl::new(None, !is_active, now)];
    for _ in 0..20 {
        for end in 0..2 {
            for packet in ends[end].poll() {
                ends[1 - end].handle(&packet);
            }
        }
    }
    assert!(ends.iter().all(|end| end.is_connected));
    ends
}

/// One end whose keys were taken over, and dimpl at the other.
pub(super) fn taken(suite: usize, is_active: bool, now: Instant) -> (Records, Dimpl) {
    let [mut ours, mut other] = connected(suite, is_active, now);
    for n in 0..3 {
        let record = ours.seal(&[n; 5]);
        assert_eq!(other.open(&record), [[n; 5]]);
        let record = other.seal(&[n; 7]);
        assert_eq!(ours.open(&record), [[n; 7]]);
    }
    let records = Records::take(&ours.keys).expect("both keys");
    (records, other)
}

struct Taken {
    ours: Watched,
    dimpl: Dimpl,
    /// What dimpl has sent in this run.
    sent: Vec<Said>,
    /// The numbers of what dimpl has received in this run.
    received: BTreeSet<u64>,
}

impl Taken {
    fn new(suite: usize, now: Instant) -> Taken {
        let (records, dimpl) = taken(suite, suite == 1, now);
        Taken { ours: Watched::of(records), dimpl, sent: Vec::new(), received: BTreeSet::new() }
    }

    fn run(&mut self, script: &mut Script<'_>) {
        self.sent.clear();
        self.ours.sent.clear();
        self.received.clear();
        for _ in 0..STEPS_MAX {
            if script.0.is_empty() {
                return;
            }
            let step = script.byte();
            match (step & 0x60, step >> 7) {
                (0, 0) => self.ours.seal(script, &[content::APPLICATION_DATA]),
                (0, _) if self.sent.len() < SENT_MAX => {
                    let content = vec![script.byte(); usize::from(script.byte()) * 4];
                    let record = self.dimpl.seal(&content);
                    self.sent.push(Said { kind: content::APPLICATION_DATA, content, record });
                }
                (0, _) => {}
                (_, to) => {
                    let mut datagram = Vec::new();
                    let sent = if to == 0 { &self.sent } else { &self.ours.sent };
                    for _ in 0..=step & 3 {
                        write_hostile(sent, script, &mut datagram);
                    }
                    if to == 0 {
                        self.ours.handle(&datagram, &self.sent);
                    } else {
                        self.receive(&datagram);
                    }
                }
            }
        }
    }

    /// dimpl must understand what was sent, once, and nothing else.
    fn receive(&mut self, datagram: &[u8]) {
        self.dimpl.handle(datagram);
        assert!(self.dimpl.poll().is_empty() && !self.dimpl.was_told_to_close);
        for data in self.dimpl.received.drain(..) {
            let said = self.ours.sent.iter().find(|said| said.content == data).expect("it was sent");
            assert!(self.received.insert(sequence_of(&said.record)), "it comes once");
        }
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
    newest: u64,
    accepted: BTreeSet<u64>,
    plain: Vec<u8>,
}

impl Watched {
    fn new(suite: Suite, end: usize) -> Watched {
        Watched::of(suite.records(end))
    }

    fn of(records: Records) -> Watched {
        let newest = EPOCH << EPOCH_SHIFT | (records.sealing.next - 1);
        let window = records.opening.window;
        let accepted = (0..=window.highest).filter(|&number| !window.is_new(number)).collect();
        Watched { records, sent: Vec::new(), newest, accepted, plain: Vec::new() }
    }

    fn seal(&mut self, script: &mut Script<'_>, kinds: &[u8]) {
        if self.sent.len() == SENT_MAX {
            return;
        }
        let shape = script.byte();
        let kind = kinds[usize::from(shape & 3) % kinds.len()];
        // Numbers are left out as if other records had been lost.
        self.records.sealing.next += u64::from(script.byte()) * u64::from(shape & 1);
        let mut content = vec![script.byte(); usize::from(shape >> 2) * 16];
        if kind == content::APPLICATION_DATA {
            content.extend_from_slice(&self.newest.to_be_bytes());
        }
        let mut record = vec![shape; usize::from(shape)];
        let start = self.records.begin(&mut record);
        record.extend_from_slice(&content);
        self.records.seal(kind, start, &mut record).expect("there are numbers enough");
        let record = record.split_off(start);
        assert_eq!(record.len(), self.records.bytes(content.len()));
        assert_eq!(split(&record).collect::<Vec<_>>(), [&record[..]], "a record has its length");
        let sequence = sequence_of(&record);
        assert!(sequence > self.newest, "no nonce is used twice");
        assert!(!self.records.sealing.left_out.contains(&number_of(sequence)), "those of dimpl are left out");
        self.newest = sequence;
        self.sent.push(Said { kind, content, record });
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
                self.accepted = self.accepted.split_off(&number.saturating_sub(256));
            }
        }
        assert!(self.plain.len() <= DATAGRAM_BYTES_MAX, "what it keeps is bounded");
    }
}

/// Appends a record that was sent, or what is nearly one.
fn write_hostile(sent: &[Said], script: &mut Script<'_>, datagram: &mut Vec<u8>) {
    let how = script.byte();
    let at = usize::from(script.byte());
    let mut record = match sent.get(at % sent.len().max(1)) {
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
        // A header that is right with other content, whose length is right.
        5 => {
            record.truncate(HEADER_BYTES);
            record.extend(script.piece());
            let length = u16::try_from(record.len().saturating_sub(HEADER_BYTES)).unwrap_or(u16::MAX);
            if let Some(field) = record.get_mut(11..HEADER_BYTES) {
                field.copy_from_slice(&length.to_be_bytes());
            }
        }
        // The end of another record.
        6 => {
            let other = sent.get(usize::from(script.byte()) % sent.len().max(1));
            if let Some(tail) = other.and_then(|other| other.record.get(place..)) {
                record.truncate(place);
                record.extend_from_slice(tail);
            }
        }
        _ => {
            if let Some(number) = record.get_mut(5..11) {
                number[5] = script.byte();
                number[4] ^= script.byte() & 3;
            }
        }
    }
    if datagram.len() + record.len() <= DATAGRAM_BYTES_MAX {
        datagram.extend_from_slice(&record);
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
