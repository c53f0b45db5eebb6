//! The layers of a published video: the encodings of one picture in different sizes (RFC 8853), or a single one.

use std::time::{Duration, Instant};

use str0m::media::Rid;

use crate::limits;

/// The time over which the rate of a layer is measured.
const WINDOW: Duration = Duration::from_secs(1);
/// The least time for a first figure.
const WINDOW_FIRST: Duration = Duration::from_millis(200);
/// How long a layer without packets counts as being sent. Browsers stop the larger layers when their uplink is narrow.
const KEPT: Duration = Duration::from_millis(500);

/// A layer of a publisher's video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerId(pub(super) u8);

/// The rates of a publisher's layers in bit/s; 0 for those that are not being sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates([u32; limits::VIDEO_LAYERS]);

impl Rates {
    /// Returns the best layer within a rate, or the least one.
    pub(super) fn best_within(&self, rate: u32) -> Option<(LayerId, u32)> {
        let fits = self.sent().filter(|&(_, of)| of <= rate).max_by_key(|&(_, of)| of);
        fits.or_else(|| self.sent().min_by_key(|&(_, of)| of))
    }

    /// Returns the rate of a layer; 0 if it is not being sent.
    pub(super) fn of(&self, layer: LayerId) -> u32 {
        self.0.get(usize::from(layer.0)).copied().unwrap_or_default()
    }

    /// Returns the rate of the layer above another one, or of the least; 0 if there is none.
    pub(super) fn above(&self, layer: Option<LayerId>) -> u32 {
        let rate = layer.map_or(0, |layer| self.of(layer));
        self.sent().map(|(_, of)| of).filter(|&of| of > rate).min().unwrap_or_default()
    }

    /// Returns the rate of the largest layer.
    pub(super) fn most(&self) -> u32 {
        self.0.iter().copied().max().unwrap_or_default()
    }

    fn sent(&self) -> impl Iterator<Item = (LayerId, u32)> + '_ {
        let numbered = (0..).map(LayerId).zip(self.0.iter().copied());
        numbered.filter(|&(_, rate)| rate > 0)
    }

    #[cfg(test)]
    pub(super) fn new<const N: usize>(rates: [u32; N]) -> Rates {
        let mut all = Rates::default();
        all.0[..N].copy_from_slice(&rates);
        all
    }
}

struct Layer {
    rid: Option<Rid>,
    bytes: u32,
    since: Instant,
    rate: u32,
    heard_at: Instant,
    keyframe_asked_at: Option<Instant>,
}

/// The layers that a publisher has sent.
#[derive(Default)]
pub(super) struct Layers {
    all: Vec<Layer>,
}

impl Layers {
    /// Handles a packet. `None` if it is one of too many layers.
    pub(super) fn hear(&mut self, now: Instant, rid: Option<Rid>, bytes: usize) -> Option<LayerId> {
        let index = match self.all.iter().position(|layer| layer.rid == rid) {
            Some(index) => index,
            None if self.all.len() < limits::VIDEO_LAYERS => {
                self.all.push(Layer { rid, bytes: 0, since: now, rate: 0, heard_at: now, keyframe_asked_at: None });
                self.all.len() - 1
            }
            None => return None,
        };
        let layer = &mut self.all[index];
        if layer.heard_at + KEPT <= now {
            (layer.bytes, layer.since, layer.rate) = (0, now, 0);
        }
        layer.heard_at = now;
        layer.bytes = layer.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let passed = now.saturating_duration_since(layer.since);
        if passed >= WINDOW || (layer.rate == 0 && passed >= WINDOW_FIRST) {
            let rate = u128::from(layer.bytes) * 8_000 / passed.as_millis().max(1);
            layer.rate = u32::try_from(rate).unwrap_or(u32::MAX);
            if passed >= WINDOW {
                (layer.bytes, layer.since) = (0, now);
            }
        }
        u8::try_from(index).ok().map(LayerId)
    }

    /// Returns the rates of what is being sent. A layer that has just begun does not count, unless there is no other.
    pub(super) fn rates(&self, now: Instant) -> Rates {
        let mut rates = Rates::default();
        let is_sent = |layer: &&Layer| now < layer.heard_at + KEPT;
        let is_measured = self.all.iter().filter(is_sent).any(|layer| layer.rate > 0);
        for (rate, layer) in rates.0.iter_mut().zip(&self.all).filter(|(_, layer)| is_sent(layer)) {
            *rate = if is_measured { layer.rate } else { 1 };
        }
        rates
    }

    /// Returns the restriction identifier of a layer from which a keyframe may be requested now, and counts it as
    /// requested. Requests of many listeners become one.
    pub(super) fn take_keyframe_request(&mut self, now: Instant, layer: LayerId) -> Option<Option<Rid>> {
        let layer = self.all.get_mut(usize::from(layer.0))?;
        if layer.keyframe_asked_at.is_some_and(|asked_at| now < asked_at + limits::KEYFRAME_INTERVAL) {
            return None;
        }
        layer.keyframe_asked_at = Some(now);
        Some(layer.rid)
    }

    /// Returns when something was last heard.
    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.all.iter().map(|layer| layer.heard_at).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        Instant::now()
    }

    #[test]
    fn rates_follow_what_is_sent_and_end_with_it() {
        let (mut layers, start) = (Layers::default(), start());
        let [small, large] = ["q", "f"].map(|rid| Some(Rid::from(rid)));
        let mut now = start;
        for sequence in 0..200 {
            now = start + Duration::from_millis(10 * sequence);
            assert_eq!(layers.hear(now, small, 125), Some(LayerId(0)));
            layers.hear(now, large, 1_250);
        }
        let rates = layers.rates(now);
        assert!(rates.of(LayerId(0)).abs_diff(100_000) < 5_000, "{rates:?}");
        assert!(rates.of(LayerId(1)).abs_diff(1_000_000) < 50_000, "{rates:?}");
        for sequence in 200..420 {
            now = start + Duration::from_millis(10 * sequence);
            layers.hear(now, small, 125);
        }
        assert_eq!(layers.rates(now).of(LayerId(1)), 0, "the browser has stopped it");
        layers.hear(now, large, 1_250);
        assert_eq!(layers.rates(now).of(LayerId(1)), 0, "nobody knows how large it is");
        let mut alone = Layers::default();
        alone.hear(now, None, 100);
        assert_eq!(alone.rates(now).of(LayerId(0)), 1);
        for rid in ["h", "x"] {
            layers.hear(now, Some(Rid::from(rid)), 1);
        }
        assert!(layers.hear(now, Some(Rid::from("y")), 1).is_none(), "there are no more than three");
    }

    #[test]
    fn keyframe_requests_of_many_become_one() {
        let (mut layers, now) = (Layers::default(), start());
        layers.hear(now, None, 100);
        assert_eq!(layers.take_keyframe_request(now, LayerId(0)), Some(None));
        let soon = now + limits::KEYFRAME_INTERVAL / 2;
        assert_eq!(layers.take_keyframe_request(soon, LayerId(0)), None);
        assert_eq!(layers.take_keyframe_request(now + limits::KEYFRAME_INTERVAL, LayerId(0)), Some(None));
        assert_eq!(layers.take_keyframe_request(now, LayerId(1)), None, "there is no such layer");
    }

    #[test]
    fn the_best_layer_that_fits_is_chosen() {
        let rates = Rates::new([150_000, 500_000, 0]);
        assert_eq!(rates.best_within(u32::MAX), Some((LayerId(1), 500_000)));
        assert_eq!(rates.best_within(499_999), Some((LayerId(0), 150_000)));
        assert_eq!(rates.best_within(1), Some((LayerId(0), 150_000)));
        assert_eq!(Rates::default().best_within(u32::MAX), None);
    }
}
