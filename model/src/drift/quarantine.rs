//! Rows of alerted episodes wait for an operator.

use crate::budget::EpisodeKey;
use std::collections::VecDeque;

/// Sizes of a [`Quarantine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QuarantineLimits {
    /// Most rows held. When full, the row held longest is dropped: it is not learned.
    pub rows: usize,
    /// Seconds that a row waits for an operator before it is dropped.
    pub wait_s: u64,
}

impl Default for QuarantineLimits {
    /// 16,384 rows, thirty days.
    fn default() -> Self {
        QuarantineLimits { rows: 16_384, wait_s: 30 * 86_400 }
    }
}

/// Keeps rows of alerted episodes from being learned.
///
/// A row outside any alerted episode passes at once. A row of one is held, whether the episode is
/// still open or not, until the operator accepts it ([`Quarantine::accept`] hands its rows over to
/// be learned), dismisses it as an anomaly, or the wait is over: silence is not consent.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Quarantine<R> {
    limits: QuarantineLimits,
    held: VecDeque<Held<R>>,
    dropped: u64,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Held<R> {
    since_s: u64,
    episode: EpisodeKey,
    row: R,
}

impl<R> Quarantine<R> {
    /// An empty quarantine.
    pub fn new(limits: QuarantineLimits) -> Self {
        Quarantine { limits, held: VecDeque::new(), dropped: 0 }
    }

    /// Offers a row for learning, with the key of the alerted (or suppressed) episode that it
    /// belongs to. Returns the row if it may be learned now.
    pub fn offer(&mut self, time_s: u64, episode: Option<EpisodeKey>, row: R) -> Option<R> {
        self.expire(time_s);
        let Some(episode) = episode else { return Some(row) };
        while self.held.len() >= self.limits.rows.max(1) {
            self.held.pop_front();
            self.dropped += 1;
        }
        self.held.push_back(Held { since_s: time_s, episode, row });
        None
    }

    /// The operator accepts an episode as normal: its rows, oldest first, to be learned.
    pub fn accept(&mut self, episode: EpisodeKey) -> Vec<R> {
        let (accepted, held) = self.held.drain(..).partition::<Vec<_>, _>(|h| h.episode == episode);
        self.held = held.into();
        accepted.into_iter().map(|h| h.row).collect()
    }

    /// The operator confirms an episode as an anomaly: its rows are dropped. Returns how many.
    pub fn dismiss(&mut self, episode: EpisodeKey) -> usize {
        let before = self.held.len();
        self.held.retain(|h| h.episode != episode);
        before - self.held.len()
    }

    /// Drops rows whose wait is over.
    pub fn expire(&mut self, time_s: u64) {
        let limit_s = self.limits.wait_s;
        while self.held.front().is_some_and(|h| time_s.saturating_sub(h.since_s) > limit_s) {
            self.held.pop_front();
            self.dropped += 1;
        }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no rows are held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Rows that were dropped without an operator's word.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_alert_are_learned_only_when_accepted() {
        let mut quarantine = Quarantine::new(QuarantineLimits::default());
        assert_eq!(quarantine.offer(0, None, 'a'), Some('a'));
        assert_eq!(quarantine.offer(1, Some(7), 'b'), None);
        assert_eq!(quarantine.offer(2, Some(8), 'c'), None);
        assert_eq!(quarantine.offer(3, Some(7), 'd'), None);
        assert_eq!(quarantine.accept(7), ['b', 'd']);
        assert_eq!(quarantine.accept(7), [' '; 0]);
        assert_eq!(quarantine.dismiss(8), 1);
        assert!(quarantine.is_empty() && quarantine.dropped() == 0);
    }

    #[test]
    fn silence_is_not_consent() {
        let mut quarantine = Quarantine::new(QuarantineLimits { rows: 2, wait_s: 10 });
        quarantine.offer(0, Some(1), 'a');
        quarantine.offer(1, Some(2), 'b');
        quarantine.offer(2, Some(3), 'c');
        assert_eq!((quarantine.len(), quarantine.dropped()), (2, 1));
        quarantine.expire(12);
        assert_eq!((quarantine.len(), quarantine.dropped()), (1, 2));
        assert_eq!(quarantine.accept(1), [' '; 0]);
        assert_eq!(quarantine.accept(3), ['c']);
    }
}
