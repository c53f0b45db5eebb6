//! The rate limit for packets of the other end, after DTLS has authenticated them.
//!
//! Unauthenticated packets do not count, or anybody could cause a peer to be closed.

use std::time::Instant;

use crate::limits;
use crate::rate::Allowance;

pub(super) struct Uplink {
    packets: Allowance,
    bytes: Allowance,
    excess: u64,
}

impl Uplink {
    pub(super) fn new(now: Instant) -> Uplink {
        Uplink {
            packets: Allowance::new(limits::UPLINK_PACKETS_PER_SECOND, now),
            bytes: Allowance::new(limits::UPLINK_BYTES_PER_SECOND, now),
            excess: 0,
        }
    }

    /// Returns whether a packet is within the limit; otherwise counts it.
    pub(super) fn takes(&mut self, now: Instant, packet: &[u8]) -> bool {
        let is_few = self.packets.take(now);
        let is_little = self.bytes.take_many(now, u32::try_from(packet.len()).unwrap_or(u32::MAX));
        self.excess += u64::from(!is_few || !is_little);
        is_few && is_little
    }

    /// Raises the limit for a message sent to the other end, which may acknowledge it (RFC 9260 §6.2).
    pub(super) fn handle_sent(&mut self) {
        self.packets.grant(1);
        self.bytes.grant(limits::ACKNOWLEDGEMENT_BYTES);
    }

    /// Returns the number of packets past the limit.
    pub(super) fn excess(&self) -> u64 {
        self.excess
    }

    /// Returns whether the limit is exceeded so far that the peer is to be closed.
    pub(super) fn is_flooded(&self) -> bool {
        self.packets.is_flooded() || self.bytes.is_flooded()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn uplink() -> (Uplink, Instant) {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        (Uplink::new(now), now)
    }

    #[test]
    fn the_most_that_a_client_has_to_say_is_taken() {
        let (mut uplink, start) = uplink();
        let input = [0; limits::UDP_PAYLOAD_BYTES];
        let acknowledgement = [0; limits::ACKNOWLEDGEMENT_BYTES as usize];
        for ms in 0..20_000 {
            let now = start + Duration::from_millis(ms);
            if ms % u64::try_from(limits::INPUT_INTERVAL.as_millis()).unwrap() == 0 {
                assert!(uplink.takes(now, &input), "the input at {ms} ms");
            }
            // 3,000 messages per second to the peer, each acknowledged separately.
            for _ in 0..3 {
                uplink.handle_sent();
                assert!(uplink.takes(now, &acknowledgement), "an acknowledgement at {ms} ms");
            }
        }
        assert_eq!(uplink.excess(), 0);
    }

    #[test]
    fn one_past_either_limit_is_dropped_and_as_many_again_are_a_flood() {
        fn check(packet: &[u8], most: u32) {
            let (mut uplink, now) = uplink();
            for number in 0..most {
                assert!(uplink.takes(now, packet), "{number} of {most}");
            }
            for number in 0..most {
                assert!(!uplink.takes(now, packet) && !uplink.is_flooded(), "{number} past {most}");
            }
            uplink.takes(now, packet);
            assert_eq!((uplink.excess(), uplink.is_flooded()), (u64::from(most) + 1, true), "{most}");
        }
        check(&[0; 12], limits::UPLINK_PACKETS_PER_SECOND);
        check(&[0; 1024], limits::UPLINK_BYTES_PER_SECOND / 1024);
    }

    #[test]
    fn what_is_sent_down_makes_no_stock() {
        let (mut uplink, now) = uplink();
        (0..10_000).for_each(|_| uplink.handle_sent());
        let taken = (0..10_000).filter(|_| uplink.takes(now, &[0; 12])).count();
        assert_eq!(taken, limits::UPLINK_PACKETS_PER_SECOND as usize);
    }
}
