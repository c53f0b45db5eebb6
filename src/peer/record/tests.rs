use std::collections::BTreeSet;
use std::time::Instant;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::hostile::{connected, taken};
use super::*;

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
    Instant::now()
}

fn seal(records: &mut Records, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut out = b"before".to_vec();
    let start = records.begin(&mut out);
    out.extend_from_slice(content);
    records.seal(kind, start, &mut out).expect("a number");
    assert_eq!(out.len(), start + records.bytes(content.len()));
    out.split_off(start)
}

#[test]
fn dimpl_and_the_records_taken_over_understand_each_other() {
    for (suite, is_active) in (0..3).flat_map(|suite| [(suite, true), (suite, false)]) {
        let (mut records, mut other) = taken(suite, is_active, now());
        let mut plain = Vec::new();
        for length in (0..1100).step_by(37) {
            let data = vec![7; length];
            let record = seal(&mut records, content::APPLICATION_DATA, &data);
            assert_eq!(other.open(&record), [&data[..]], "suite {suite}, {length} bytes");
            assert_eq!(other.open(&record), [[0; 0]; 0], "nothing comes twice");
            let record = other.seal(&data);
            assert_eq!(records.open(&record, &mut plain), Opened::Data(&data), "suite {suite}, {length} bytes");
            assert_eq!(records.open(&record, &mut plain), Opened::Nothing, "nothing comes twice");
        }
        other.handle(&seal(&mut records, content::ALERT, &CLOSE_NOTIFY));
        other.poll();
        assert!(other.was_told_to_close);
        let (mut records, mut other) = taken(suite, is_active, now());
        other.dtls.close().expect("it can be closed");
        assert_eq!(records.open(&other.poll().concat(), &mut plain), Opened::CloseNotify);
        assert_eq!(records.opening.forged, 0);
    }
}

#[test]
fn every_damage_and_every_cut_is_found_and_does_no_harm() {
    for suite in 0..3 {
        let (mut records, mut other) = taken(suite, false, now());
        let mut plain = Vec::new();
        let record = other.seal(b"genuine");
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(records.open(&damaged, &mut plain), Opened::Nothing, "suite {suite}, bit {bit}");
        }
        for length in 0..record.len() {
            assert_eq!(records.open(&record[..length], &mut plain), Opened::Nothing, "suite {suite}, {length} bytes");
            assert_eq!(split(&record[..length]).count(), 0);
            // The same with the length that is left.
            let mut cut = record[..length].to_vec();
            if let Some(length) = length.checked_sub(HEADER_BYTES) {
                cut[11..13].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
                assert_eq!(records.open(&cut, &mut plain), Opened::Nothing, "suite {suite}, {length} bytes left");
            }
        }
        assert_eq!(records.open(&[&record[..], &[0]].concat(), &mut plain), Opened::Nothing);
        assert!(records.opening.forged > 0, "forgeries are counted");
        assert_eq!(records.open(&record, &mut plain), Opened::Data(b"genuine"));
    }
}

#[test]
fn what_dimpl_has_accepted_is_not_accepted_again_nor_by_dimpl_what_was_taken_over() {
    for suite in 0..3 {
        let [mut ours, mut other] = connected(suite, false, now());
        let before = other.seal(b"before");
        let late = other.seal(b"late");
        ours.seal(b"a key that has sealed");
        assert_eq!(ours.open(&before), [b"before"]);
        let mut records = Records::take(&ours.keys).expect("both keys");
        let mut plain = Vec::new();
        assert_eq!(records.open(&before, &mut plain), Opened::Nothing);
        assert_eq!(records.open(&late, &mut plain), Opened::Data(b"late"));
        assert!(ours.dtls.send_application_data(b"without a key").is_err(), "dimpl can't seal any more");
        ours.handle(&other.seal(b"more"));
        ours.poll();
        assert_eq!(ours.received, [[0; 0]; 0], "nor open");
        assert!(Records::take(&ours.keys).is_none(), "and they are taken once");
    }
}

#[test]
fn several_records_in_a_datagram_are_opened_up_to_one_that_is_cut_short() {
    let (mut records, mut other) = taken(0, false, now());
    let sealed: Vec<Vec<u8>> = (0..10_u8).map(|n| other.seal(&[n])).collect();
    let mut datagram = sealed[..3].concat();
    datagram.extend_from_slice(&sealed[3][..20]);
    let mut plain = Vec::new();
    let mut open = |datagram: &[u8]| -> Vec<u8> {
        split(datagram)
            .filter_map(|record| match records.open(record, &mut plain) {
                Opened::Data(data) => Some(data[0]),
                _ => None,
            })
            .collect()
    };
    assert_eq!(open(&datagram), [0, 1, 2]);
    let alert = [content::ALERT, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    assert_eq!(open(&[&alert[..], &sealed[4]].concat()), [4], "behind one that is ignored");
    assert_eq!(open(&sealed.concat()), [3, 5, 6, 7], "of many the first are opened");
}

#[test]
fn what_is_not_of_this_epoch_or_belongs_to_the_handshake_is_ignored_unopened() {
    let (mut records, mut other) = taken(0, false, now());
    let genuine = other.seal(b"genuine");
    let mut plain = Vec::new();
    for (at, value) in [(0, 20), (0, 22), (0, 24), (1, 3), (2, 0xff), (3, 1), (4, 0), (4, 2)] {
        let mut record = genuine.clone();
        record[at] = value;
        assert_eq!(records.open(&record, &mut plain), Opened::Nothing, "{value} at {at}");
    }
    assert_eq!(records.opening.forged, 0);
    let mut sender = Suite::Aes128Gcm.records(0);
    let mut receiver = Suite::Aes128Gcm.records(1);
    for (alert, expected) in [
        (&[1, 0][..], Opened::CloseNotify),
        (&[2, 0], Opened::CloseNotify),
        (&[2, 40], Opened::FatalAlert),
        (&[1, 41], Opened::Nothing),
        (&[2], Opened::Nothing),
        (&[], Opened::Nothing),
    ] {
        let record = seal(&mut sender, content::ALERT, alert);
        assert_eq!(receiver.open(&record, &mut plain), expected, "{alert:?}");
    }
}

#[test]
fn too_many_forgeries_are_told_and_what_is_genuine_counts_as_none() {
    let (mut sender, mut receiver) = (Suite::ChaCha20Poly1305.records(0), Suite::ChaCha20Poly1305.records(1));
    let mut plain = Vec::new();
    let mut forged = seal(&mut sender, content::APPLICATION_DATA, b"forged");
    *forged.last_mut().unwrap() ^= 1;
    receiver.opening.forged = FORGERIES_MAX - 2;
    assert_eq!(receiver.open(&forged, &mut plain), Opened::Nothing);
    for n in 0..10 {
        let genuine = seal(&mut sender, content::APPLICATION_DATA, &[n]);
        assert_eq!(receiver.open(&genuine, &mut plain), Opened::Data(&[n]));
        assert_eq!(receiver.open(&genuine, &mut plain), Opened::Nothing);
    }
    forged[10] = 200;
    assert_eq!(receiver.open(&forged, &mut plain), Opened::TooManyForgeries);
}

#[test]
fn numbers_end_without_wrapping() {
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let mut records = suite.records(0);
        records.sealing.next = RECORDS_MAX - 2;
        seal(&mut records, content::APPLICATION_DATA, b"last but one");
        let last = seal(&mut records, content::APPLICATION_DATA, b"last");
        assert_eq!(last[3..11], (1 << EPOCH_SHIFT | (RECORDS_MAX - 1)).to_be_bytes());
        for _ in 0..3 {
            let mut out = Vec::new();
            let start = records.begin(&mut out);
            assert_eq!(records.seal(content::APPLICATION_DATA, start, &mut out), Err(Exhausted));
        }
    }
}

/// A key as dimpl gets it.
fn lent(suite: Suite) -> Key {
    let bytes = [5; 32];
    let key = UnboundKey::new(suite.algorithm(), &bytes[..suite.algorithm().key_len()]).unwrap();
    Key::new(suite, LessSafeKey::new(key))
}

fn aad_of(sequence: u64) -> Aad {
    Aad(aad(content::APPLICATION_DATA, sequence, 0).into_iter().collect())
}

fn use_to_seal(key: &Key, sequence: u64, nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
    let mut sealed = Buf::new();
    key.clone().encrypt(&mut sealed, aad_of(sequence), Nonce(nonce)).expect("it has the key");
    sealed.into_vec()
}

fn use_to_open(key: &Key, sequence: u64, nonce: [u8; NONCE_BYTES]) {
    let suite = key.used().suite;
    let mut sealed = use_to_seal(&lent(suite), sequence, nonce);
    key.clone().decrypt(&mut TmpBuf::new(&mut sealed), aad_of(sequence), Nonce(nonce)).expect("it is genuine");
}

fn nonce(iv: u8, explicit: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [iv; NONCE_BYTES];
    nonce[4..].copy_from_slice(&explicit.to_be_bytes());
    nonce
}

#[test]
fn nonces_that_dimpl_has_drawn_are_left_out() {
    let (sealing, opening) = (lent(Suite::Aes128Gcm), lent(Suite::Aes128Gcm));
    let sequence = |number: u64| EPOCH << EPOCH_SHIFT | number;
    let drawn = [sequence(7), 0x1234_5678_9abc_def0, sequence(5), sequence(6), sequence(2)];
    for (number, &drawn) in drawn.iter().enumerate() {
        use_to_seal(&sealing, sequence(number as u64), nonce(1, drawn));
    }
    use_to_open(&opening, sequence(0), nonce(2, 77));
    let mut records = Records::take(&[opening, sealing]).expect("in any order");
    let numbers: Vec<u64> = (0..4)
        .map(|_| seal(&mut records, content::APPLICATION_DATA, b""))
        .map(|record| u64::from_be_bytes(record[13..21].try_into().unwrap()) & 0xff)
        .collect();
    assert_eq!(numbers, [8, 9, 10, 11]);
}

#[test]
fn keys_are_taken_over_only_from_one_handshake_that_is_done() {
    let sequence = EPOCH << EPOCH_SHIFT;
    let used = |act: &dyn Fn(&Key)| {
        let key = lent(Suite::Aes128Gcm);
        act(&key);
        key
    };
    let sealing = || used(&|key| drop(use_to_seal(key, sequence, nonce(1, 1))));
    let opening = || used(&|key| use_to_open(key, sequence, nonce(2, 2)));
    assert!(Records::take(&[sealing(), opening()]).is_some());
    let both = used(&|key| {
        use_to_seal(key, sequence, nonce(1, 1));
        use_to_open(key, sequence, nonce(1, 2));
    });
    let two_ivs = used(&|key| {
        use_to_seal(key, sequence, nonce(1, 1));
        use_to_seal(key, sequence + 1, nonce(2, 2));
    });
    let other_epoch = used(&|key| drop(use_to_seal(key, sequence << 1, nonce(1, 1))));
    let many_drawn = used(&|key| {
        for n in 0..=DRAWN_MAX as u64 {
            use_to_seal(key, sequence + n, nonce(1, sequence + n));
        }
    });
    for (name, one) in [
        ("unused", lent(Suite::Aes128Gcm)),
        ("both", both),
        ("two IVs", two_ivs),
        ("epoch", other_epoch),
        ("drawn", many_drawn),
    ] {
        let other = opening();
        assert!(Records::take(&[one.clone(), other.clone()]).is_none(), "{name}");
        assert!(Records::take(&[other.clone(), one.clone()]).is_none(), "{name}");
        assert!(Records::take(&[sealing(), other]).is_some(), "{name}: the other was not taken");
    }
    let alone = sealing();
    assert!(Records::take(&[alone.clone(), alone.clone()]).is_none());
    assert!(Records::take(&[alone.clone(), sealing()]).is_none());
    assert!(Records::take(std::slice::from_ref(&alone)).is_none());
    assert!(Records::take(&[]).is_none());
    assert!(Records::take(&[alone, opening(), opening()]).is_none());
}

#[test]
fn the_window_takes_each_number_once_and_none_that_is_too_old() {
    for seed in 0..50 {
        println!("seed {seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut window, mut accepted) = (Window::default(), BTreeSet::new());
        let mut around = 0_u64;
        for _ in 0..2_000 {
            let ahead = [1, 2, 64, 127, 128, 129, 1 << 40][rng.random_range(0..7)];
            around = around.saturating_add(if rng.random_range(0..8) == 0 { ahead } else { 1 });
            let number = around.saturating_sub(rng.random_range(0..200));
            let highest = accepted.last().copied().unwrap_or(0);
            let is_new = !accepted.contains(&number) && number + 128 > highest;
            assert_eq!(window.is_new(number), is_new, "{number} after {highest}");
            if is_new && rng.next_u32() % 4 > 0 {
                window.accept(number);
                accepted.insert(number);
            }
        }
    }
}

#[test]
fn a_key_and_its_owner_are_small() {
    assert!(size_of::<Records>() <= 200, "{} bytes", size_of::<Records>());
}
