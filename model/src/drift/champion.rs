//! Whether a challenger replaces the champion.

use super::psi::{ColumnDrift, Drift};

/// What both models said about one window that neither was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialWindow {
    /// The champion alerts on it, at its own threshold.
    pub champion_alerts: bool,
    /// The challenger alerts on it, at its own threshold.
    pub challenger_alerts: bool,
    /// What an operator said: a confirmed anomaly, or accepted as normal; `None` if nothing.
    pub confirmed: Option<bool>,
}

/// What a challenger must show.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PromotionRule {
    /// Fewest windows of a trial.
    pub min_windows: usize,
    /// How many times the champion's alerts on windows not confirmed as anomalies the challenger
    /// may raise.
    pub max_alert_ratio: f64,
    /// Alerts on such windows that are always allowed: what the budget gives for the trial.
    pub allowed_alerts: usize,
}

/// Why the champion stays.
#[derive(Debug, Clone, PartialEq)]
pub enum KeepReason {
    /// Fewer windows than the rule asks for.
    TooFewWindows {
        /// Windows there were.
        windows: usize,
    },
    /// A feature moved so far since the champion's training that an operator must accept it
    /// first: a slow ramp is not learned in silence.
    Drifted {
        /// Columns at [`Drift::Act`].
        columns: Vec<usize>,
    },
    /// The challenger misses confirmed anomalies that the champion found.
    MissesConfirmed {
        /// How many.
        windows: usize,
    },
    /// The challenger alerts more on what is not known to be wrong.
    AlertsMore {
        /// The champion's alerts.
        champion: usize,
        /// The challenger's alerts.
        challenger: usize,
    },
}

/// The outcome of a trial.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The challenger takes over.
    Promote,
    /// The champion stays.
    Keep(KeepReason),
}

/// Compares champion and challenger on the same windows.
///
/// The challenger is promoted only if the trial is long enough, no column of `drift` (the index
/// since the champion's training) stands at [`Drift::Act`] unless the operator has accepted it,
/// no confirmed anomaly is lost, and it alerts no more on the rest than the rule allows.
pub fn compare(
    windows: &[TrialWindow],
    drift: &[ColumnDrift],
    accepted_columns: &[usize],
    rule: &PromotionRule,
) -> Verdict {
    if windows.len() < rule.min_windows {
        return Verdict::Keep(KeepReason::TooFewWindows { windows: windows.len() });
    }
    let acting = drift.iter().filter(|c| c.drift == Drift::Act).map(|c| c.column);
    let columns: Vec<usize> = acting.filter(|c| !accepted_columns.contains(c)).collect();
    if !columns.is_empty() {
        return Verdict::Keep(KeepReason::Drifted { columns });
    }
    let lost =
        |w: &&TrialWindow| w.confirmed == Some(true) && w.champion_alerts && !w.challenger_alerts;
    let missed = windows.iter().filter(lost).count();
    if missed > 0 {
        return Verdict::Keep(KeepReason::MissesConfirmed { windows: missed });
    }
    let others = || windows.iter().filter(|w| w.confirmed != Some(true));
    let champion = others().filter(|w| w.champion_alerts).count();
    let challenger = others().filter(|w| w.challenger_alerts).count();
    let allowed = (champion as f64 * rule.max_alert_ratio).max(rule.allowed_alerts as f64);
    if challenger as f64 > allowed {
        return Verdict::Keep(KeepReason::AlertsMore { champion, challenger });
    }
    Verdict::Promote
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: PromotionRule =
        PromotionRule { min_windows: 100, max_alert_ratio: 1.1, allowed_alerts: 2 };

    fn windows(champion: usize, challenger: usize) -> Vec<TrialWindow> {
        (0..200)
            .map(|i| TrialWindow {
                champion_alerts: i < champion,
                challenger_alerts: i < challenger,
                confirmed: None,
            })
            .collect()
    }

    #[test]
    fn no_worse_is_enough() {
        assert_eq!(compare(&windows(10, 11), &[], &[], &RULE), Verdict::Promote);
        assert_eq!(compare(&windows(0, 2), &[], &[], &RULE), Verdict::Promote);
        let more = KeepReason::AlertsMore { champion: 10, challenger: 12 };
        assert_eq!(compare(&windows(10, 12), &[], &[], &RULE), Verdict::Keep(more));
    }

    #[test]
    fn a_short_trial_changes_nothing() {
        let short = KeepReason::TooFewWindows { windows: 99 };
        assert_eq!(compare(&windows(5, 0)[..99], &[], &[], &RULE), Verdict::Keep(short));
    }

    #[test]
    fn a_lost_anomaly_cannot_be_paid_for_with_fewer_alerts() {
        let mut trial = windows(10, 0);
        trial[0].confirmed = Some(true);
        let lost = KeepReason::MissesConfirmed { windows: 1 };
        assert_eq!(compare(&trial, &[], &[], &RULE), Verdict::Keep(lost));
        // Alerts on confirmed anomalies count against nobody.
        trial[0].challenger_alerts = true;
        assert_eq!(compare(&trial, &[], &[], &RULE), Verdict::Promote);
    }

    #[test]
    fn a_ramp_waits_for_the_operator() {
        let drift = [
            ColumnDrift { column: 3, psi: 0.2, drift: Drift::Watch },
            ColumnDrift { column: 5, psi: 0.4, drift: Drift::Act },
        ];
        let ramp = KeepReason::Drifted { columns: vec![5] };
        assert_eq!(compare(&windows(5, 5), &drift, &[], &RULE), Verdict::Keep(ramp));
        assert_eq!(compare(&windows(5, 5), &drift, &[5], &RULE), Verdict::Promote);
    }
}
