//! Findings that merge into episodes, and the alerts of the last day.

use super::solve::EpisodeKey;
use std::collections::{BTreeMap, VecDeque};

/// Most episodes open at once. When full, the one whose last finding is oldest is closed early:
/// its next finding starts a new episode.
pub const MAX_OPEN_EPISODES: usize = 4096;

/// Most alerts of the last day that are remembered beyond the cap. When full, the alert with the
/// lowest score is forgotten: neither "cap reached" nor "highest of the day" depends on it.
pub(super) const MAX_REMEMBERED_OVER_CAP: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Episode {
    pub last_s: u64,
    pub alerted: bool,
}

/// Episodes by key; an entry is dead once its last finding is further back than the gap.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct OpenEpisodes {
    pub by_key: BTreeMap<EpisodeKey, Episode>,
}

impl OpenEpisodes {
    pub fn live(&mut self, key: EpisodeKey, now_s: u64, gap_s: u64) -> Option<&mut Episode> {
        self.by_key.get_mut(&key).filter(|e| now_s.saturating_sub(e.last_s) <= gap_s)
    }

    pub fn open(&mut self, key: EpisodeKey, episode: Episode, gap_s: u64) {
        if self.by_key.len() >= MAX_OPEN_EPISODES && !self.by_key.contains_key(&key) {
            self.by_key.retain(|_, e| episode.last_s.saturating_sub(e.last_s) <= gap_s);
            if self.by_key.len() >= MAX_OPEN_EPISODES {
                let oldest = self.by_key.iter().min_by_key(|(_, e)| e.last_s).map(|(k, _)| *k);
                if let Some(oldest) = oldest {
                    self.by_key.remove(&oldest);
                }
            }
        }
        self.by_key.insert(key, episode);
    }

    pub fn count(&self, now_s: u64, gap_s: u64) -> usize {
        self.by_key.values().filter(|e| now_s.saturating_sub(e.last_s) <= gap_s).count()
    }
}

/// The alerts of the last 24 hours.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct DayOfAlerts {
    /// (time in seconds, score), oldest first.
    pub alerts: VecDeque<(u64, f64)>,
}

impl DayOfAlerts {
    pub fn forget_before(&mut self, time_s: u64) {
        while self.alerts.front().is_some_and(|&(t, _)| t < time_s) {
            self.alerts.pop_front();
        }
    }

    pub fn highest(&self) -> f64 {
        self.alerts.iter().map(|&(_, score)| score).fold(f64::NEG_INFINITY, f64::max)
    }

    pub fn add(&mut self, time_s: u64, score: f64, cap: usize) {
        if self.alerts.len() >= cap + MAX_REMEMBERED_OVER_CAP {
            let lowest = (0..self.alerts.len())
                .min_by(|&a, &b| self.alerts[a].1.total_cmp(&self.alerts[b].1));
            if let Some(at) = lowest {
                self.alerts.remove(at);
            }
        }
        self.alerts.push_back((time_s, score));
    }
}
