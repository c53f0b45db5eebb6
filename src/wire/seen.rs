//! Stamps of inputs: the tick that the player saw of the others when sending an input, in sixteenths of a tick modulo
//! 2¹⁶.

/// Stamps per tick.
const STEPS: f64 = 16.0;

/// Returns the stamp for `tick`, which may lie between two ticks. It must be finite.
#[must_use]
pub fn stamp(tick: f64) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 2¹⁶ − 1")]
    let stamp = (tick * STEPS).round().rem_euclid(f64::from(u16::MAX) + 1.0) as u16;
    stamp
}

/// Returns the tick nearest to `tick` that has this stamp: at most 2,048 ticks before or after it. It may be negative.
#[must_use]
pub fn unwrap(stamp: u16, tick: u32) -> f64 {
    let older = self::stamp(tick.into()).wrapping_sub(stamp).cast_signed();
    f64::from(tick) - f64::from(older) / STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_names_the_sixteenth_nearest_to_the_room() {
        for room in [0, 1, 4_095, 4_096, 1 << 20, u32::MAX] {
            for off in [0.0, 0.0625, -0.0625, -1.5, -30.0, -2047.9375, 2_048.0, 3.0] {
                let seen = f64::from(room) + off;
                assert_eq!(unwrap(stamp(seen), room), seen, "{off} from {room}");
            }
        }
        assert_eq!(unwrap(stamp(1.03), 1), 1.0);
        assert_eq!(unwrap(stamp(1.04), 1), 1.0625);
        assert_eq!(stamp(-0.01), 0);
        assert_eq!(unwrap(stamp(3_000.0), 0), 3_000.0 - 4_096.0, "what is further away wraps");
    }
}
