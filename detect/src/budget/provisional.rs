//! Alerting before the budget's level is supported: nothing is extrapolated.

/// How many times its largest held-back value a count must exceed to stand alone.
pub const PROVISIONAL_COUNT_FACTOR: f64 = 10.0;

/// A count of an episode beside what held-back windows knew of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CountEvidence {
    /// Value in the episode.
    pub value: f64,
    /// Largest value of the same column in any held-back window.
    pub held_back_max: f64,
    /// The count's feature family deviates further than it did in any held-back window.
    pub family_beyond: bool,
}

/// What is known of an episode while the state is provisional.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProvisionalEvidence<'a> {
    /// The episode's highest score.
    pub score: f64,
    /// Highest held-back score of what judges the episode; `None` without held-back rows.
    pub held_back_max: Option<f64>,
    /// The episode has an object: a never-seen program, parent-child pair or peer, a privilege
    /// change, or an exec from writable or memory.
    pub has_object: bool,
    /// A second feature family agrees with the one that found the object.
    pub second_family_agrees: bool,
    /// Counts (not shares or rates) that stand out.
    pub counts: &'a [CountEvidence],
}

/// Why a provisional episode alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionalAlert {
    /// It has an object, and a second family agrees.
    Object,
    /// A count is above ten times its largest held-back value.
    Count,
}

/// Whether an episode alerts while too few windows are held back for the budget's level: only if
/// it exceeds *every* held-back window and either has an object with a second family that agrees,
/// or a count above [`PROVISIONAL_COUNT_FACTOR`] times its largest held-back value (a largest
/// value below 1 is taken as 1, or the first event of a kind would do). A count exceeds them by its
/// score or in its own family: where busy programs deviate in all families at once, a burst in
/// one is above none of their scores.
///
/// What alerts still goes through [`Budget::admit`](super::Budget::admit): the cap holds from the
/// first minute.
pub fn provisional_alert(evidence: &ProvisionalEvidence<'_>) -> Option<ProvisionalAlert> {
    let above = evidence.score > evidence.held_back_max?;
    if above && evidence.has_object && evidence.second_family_agrees {
        return Some(ProvisionalAlert::Object);
    }
    let alerts = |count: &CountEvidence| {
        (above || count.family_beyond)
            && count.value > PROVISIONAL_COUNT_FACTOR * count.held_back_max.max(1.0)
    };
    evidence.counts.iter().any(alerts).then_some(ProvisionalAlert::Count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn novelty_alone_is_not_enough() {
        let few = [CountEvidence { value: 99.0, held_back_max: 10.0, family_beyond: true }];
        let none = ProvisionalEvidence {
            score: 0.9,
            held_back_max: Some(0.8),
            has_object: false,
            second_family_agrees: true,
            counts: &few,
        };
        assert_eq!(provisional_alert(&none), None);
        let object = ProvisionalEvidence { has_object: true, ..none };
        assert_eq!(provisional_alert(&object), Some(ProvisionalAlert::Object));
        let alone = ProvisionalEvidence { second_family_agrees: false, ..object };
        assert_eq!(provisional_alert(&alone), None);
        let many = [CountEvidence { value: 101.0, held_back_max: 10.0, family_beyond: false }];
        let count = ProvisionalEvidence { counts: &many, ..none };
        assert_eq!(provisional_alert(&count), Some(ProvisionalAlert::Count));
    }

    #[test]
    fn a_score_that_some_held_back_window_reached_never_alerts() {
        let many = [CountEvidence { value: 1e6, held_back_max: 0.0, family_beyond: false }];
        let evidence = ProvisionalEvidence {
            score: 0.8,
            held_back_max: Some(0.8),
            has_object: true,
            second_family_agrees: true,
            counts: &many,
        };
        assert_eq!(provisional_alert(&evidence), None);
        let untrained = ProvisionalEvidence { held_back_max: None, ..evidence };
        assert_eq!(provisional_alert(&untrained), None);
        let nan = ProvisionalEvidence { score: f64::NAN, ..evidence };
        assert_eq!(provisional_alert(&nan), None);
    }

    #[test]
    fn a_burst_beyond_its_family_needs_no_score() {
        let burst = |family_beyond| CountEvidence { value: 1e4, held_back_max: 1.0, family_beyond };
        let (within, beyond) = ([burst(false)], [burst(true)]);
        let evidence = ProvisionalEvidence {
            score: 0.7,
            held_back_max: Some(0.8),
            has_object: true,
            second_family_agrees: true,
            counts: &within,
        };
        assert_eq!(provisional_alert(&evidence), None);
        let evidence = ProvisionalEvidence { counts: &beyond, ..evidence };
        assert_eq!(provisional_alert(&evidence), Some(ProvisionalAlert::Count));
    }

    #[test]
    fn a_first_event_is_not_ten_times_nothing() {
        let few = [CountEvidence { value: 10.0, held_back_max: 0.0, family_beyond: true }];
        let evidence = ProvisionalEvidence {
            score: 0.9,
            held_back_max: Some(0.8),
            has_object: false,
            second_family_agrees: false,
            counts: &few,
        };
        assert_eq!(provisional_alert(&evidence), None);
    }
}
