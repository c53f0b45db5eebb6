use std::collections::VecDeque;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// Holds what arrives, and takes so many bytes.
#[derive(Debug, Default)]
struct Wire {
    arrived: VecDeque<u8>,
    sent: Vec<u8>,
    takes: usize,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.arrived.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.takes);
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.takes -= taken;
        self.sent.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An acceptor with a new certificate, and what trusts it.
pub(in crate::driver) fn acceptor(name: &str) -> (Rc<Acceptor>, Arc<ClientConfig>) {
    let directory = std::env::temp_dir().join(format!("rtcade-{name}-{}", std::process::id()));
    let tls = development::kept(&directory, &["localhost".to_owned()], unix_time()).expect("written");
    let chain = tls.chain().expect("just made");
    let acceptor = Acceptor::new(tls).expect("just made");
    let _ = fs::remove_dir_all(directory);
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Rc::new(acceptor), Arc::new(config))
}

pub(in crate::driver) fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost").expect("a name")).expect("a client")
}

fn would_block<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the sizes of reads and writes, the shares of work and the space in the socket are.
    #[test]
    fn data_passes_both_ways_and_none_waits_unseen(seed in any::<u64>()) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (acceptor, config) = acceptor(&format!("session-{seed}"));
        let mut client = client(&config);
        client.set_buffer_limit(None);
        let mut socket = Socket::new(Wire::default(), &Security::Tls(Rc::clone(&acceptor)));
        let [up, down] = [0, 1].map(|_| {
            let mut data = vec![0; rng.random_range(0..100_000)];
            rng.fill(&mut data[..]);
            data
        });
        client.writer().write_all(&up).expect("buffered");
        let (mut received_up, mut received_down, mut written) = (Vec::new(), vec![0; down.len()], 0);
        let mut read_down = 0;
        let mut on_wire = Vec::new();
        for _ in 0..100_000 {
            if received_up.len() == up.len() && read_down == down.len() {
                break;
            }
            while client.wants_write() {
                client.write_tls(&mut on_wire).expect("a vector takes all");
            }
            let arriving = rng.random_range(0..=on_wire.len().min(20_000));
            socket.meter.get_mut().arrived.extend(on_wire.drain(..arriving));
            socket.meter.get_mut().takes = rng.random_range(0..10_000);
            socket.meter.handle_readable(false);
            socket.meter.allow(rng.random_range(1..40_000));

            let mut buffer = vec![0; rng.random_range(1..5_000)];
            while let Some(count) = would_block(socket.read(&mut buffer)) {
                received_up.extend_from_slice(&buffer[..count]);
            }
            let begun = received_up.len() == up.len();
            while begun && written < down.len() {
                let end = down.len().min(written + rng.random_range(1..60_000));
                let Some(count) = would_block(socket.write(&down[written..end])) else { break };
                prop_assert!(count > 0);
                written += count;
            }
            if would_block(socket.flush()).is_none() {
                prop_assert!(socket.meter.has_waiting(), "the poll would not be asked for space");
            }
            let mut sent = &std::mem::take(&mut socket.meter.get_mut().sent)[..];
            while !sent.is_empty() {
                client.read_tls(&mut sent).expect("a slice");
                client.process_new_packets().expect("valid");
                while let Ok(count @ 1..) = client.reader().read(&mut received_down[read_down..]) {
                    read_down += count;
                }
            }
        }
        prop_assert!(received_up == up, "{} of {} bytes", received_up.len(), up.len());
        prop_assert!(received_down == down, "{read_down} of {} bytes, {written} written", down.len());
        prop_assert_eq!(acceptor.handshakes(), Handshakes { full: 1, ..Handshakes::default() });
    }

    #[test]
    fn nothing_that_arrives_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), is_tls in any::<bool>()) {
        thread_local!(static ACCEPTOR: Rc<Acceptor> = acceptor("garbage").0);
        let mut bytes = bytes;
        if is_tls && bytes.len() > 5 {
            let length = u16::try_from(bytes.len() - 5).expect("short").to_be_bytes();
            bytes[..5].copy_from_slice(&[HANDSHAKE_RECORD, 3, 1, length[0], length[1]]);
        }
        let security = Security::Tls(ACCEPTOR.with(Rc::clone));
        let mut socket = Socket::new(Wire { arrived: bytes.into(), takes: 100_000, ..Wire::default() }, &security);
        socket.meter.allow(usize::MAX);
        let _ = socket.read(&mut [0; 1024]);
        let _ = socket.flush();
        prop_assert!(!socket.meter.has_waiting());
    }
}

#[test]
fn what_waits_for_the_socket_is_one_record() {
    let (acceptor, config) = acceptor("waiting");
    let mut client = client(&config);
    let mut socket = Socket::new(Wire::default(), &Security::Tls(acceptor));
    socket.meter.allow(usize::MAX);
    socket.meter.get_mut().takes = usize::MAX;
    for _ in 0..4 {
        while client.wants_write() {
            client.write_tls(&mut socket.meter.get_mut().arrived).expect("taken");
        }
        socket.meter.handle_readable(false);
        would_block(socket.read(&mut [0; 1024]));
        let sent = std::mem::take(&mut socket.meter.get_mut().sent);
        client.read_tls(&mut &sent[..]).expect("a slice");
        client.process_new_packets().expect("valid");
    }
    assert!(!client.is_handshaking() && socket.is_secure());
    socket.meter.get_mut().takes = 0;
    let megabyte = vec![7; 1024 * 1024];
    assert_eq!(would_block(socket.write(&megabyte)), Some(RECORD_BYTES));
    assert_eq!(would_block(socket.write(&megabyte)), None, "it would wait behind the first");
    assert!(socket.meter.has_waiting());
    socket.meter.get_mut().takes = usize::MAX;
    assert_eq!(would_block(socket.flush()), Some(()));
    assert!(!socket.meter.has_waiting());
    let sent = socket.meter.get_ref().sent.len();
    assert!((RECORD_BYTES..RECORD_BYTES + 100).contains(&sent), "{sent}");
}
