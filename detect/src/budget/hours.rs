//! The last week by the hour: what feedback and reports are made from.

use std::collections::VecDeque;

/// Hours kept; older ones fall out.
pub(super) const HOURS_KEPT: usize = 7 * 24;

pub(super) const HOUR_S: u64 = 3600;

/// One hour of life.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Hour {
    /// Episodes above the threshold, suppressed ones included.
    pub episodes: u32,
    /// Episodes that alerted.
    pub alerts: u32,
    /// Seconds in which windows were observed.
    pub observed_s: u32,
    /// Highest score that alerted.
    pub highest: Option<f64>,
    /// Threshold at the end of the hour.
    pub threshold: f64,
}

/// The closed hours, oldest first, and the open one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Hours {
    pub closed: VecDeque<Hour>,
    pub open: Hour,
    /// Start of the open hour.
    pub open_since_s: u64,
    /// Hours ever closed: each 24th solves the threshold anew.
    pub closed_total: u64,
}

impl Hours {
    pub fn starting(time_s: u64, threshold: f64) -> Self {
        let hour = Hour { threshold, ..Hour::default() };
        Hours {
            // The threshold before the first hour counts among those of the first day.
            closed: VecDeque::from([hour]),
            open: hour,
            open_since_s: time_s,
            closed_total: 0,
        }
    }

    /// Closes the open hour with the given threshold.
    pub fn close(&mut self, threshold: f64) {
        self.open.threshold = threshold;
        if self.closed.len() == HOURS_KEPT {
            self.closed.pop_front();
        }
        self.closed.push_back(self.open);
        self.open = Hour { threshold, ..Hour::default() };
        self.open_since_s += HOUR_S;
        self.closed_total += 1;
    }

    /// The last `hours` hours, the open one included, newest first.
    pub fn last(&self, hours: usize) -> impl Iterator<Item = &Hour> {
        std::iter::once(&self.open).chain(self.closed.iter().rev()).take(hours)
    }

    /// Lowest and highest threshold at the last 25 full hours, which span a day.
    pub fn day_range(&self) -> (f64, f64) {
        self.closed
            .iter()
            .rev()
            .take(24)
            .fold((self.open.threshold, self.open.threshold), |(low, high), h| {
                (low.min(h.threshold), high.max(h.threshold))
            })
    }
}
