//! Rankings: areas and curves.

use std::collections::BTreeMap;

use rand::{Rng, rngs::SmallRng};

use super::collect::Judged;

/// Points of a curve that is shown.
const SHOWN: usize = 400;
/// Bins of equal count that the bootstrap ranks by.
const BINS: usize = 1024;

/// Positives and negatives by score, the highest first; ties are one step.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    /// (positives, negatives) above and at each step.
    steps: Vec<(f64, f64)>,
}

impl Curve {
    pub fn of(scored: impl Iterator<Item = (f32, bool)>) -> Self {
        let mut scored: Vec<(f32, bool)> = scored.collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut steps: Vec<(f64, f64)> = Vec::new();
        let (mut positives, mut negatives) = (0.0, 0.0);
        let mut last = None;
        for (score, positive) in scored {
            positives += f64::from(u8::from(positive));
            negatives += f64::from(u8::from(!positive));
            if last == Some(score)
                && let Some(step) = steps.last_mut()
            {
                *step = (positives, negatives);
            } else {
                steps.push((positives, negatives));
            }
            last = Some(score);
        }
        Self { steps }
    }

    fn totals(&self) -> Option<(f64, f64)> {
        self.steps.last().copied().filter(|(p, n)| *p > 0.0 && *n > 0.0)
    }

    /// The chance that a positive is ranked above a negative, ties counting half.
    pub fn auroc(&self) -> Option<f64> {
        let (all_positives, all_negatives) = self.totals()?;
        let (mut area, mut before) = (0.0, (0.0, 0.0));
        for step in &self.steps {
            area += (step.1 - before.1) * f64::midpoint(step.0, before.0);
            before = *step;
        }
        Some(area / all_positives / all_negatives)
    }

    /// Precision at each step, weighed by what it adds to recall.
    pub fn average_precision(&self) -> Option<f64> {
        let (all_positives, _) = self.totals()?;
        let (mut sum, mut before) = (0.0, 0.0);
        for (positives, negatives) in &self.steps {
            sum += (positives - before) * positives / (positives + negatives);
            before = *positives;
        }
        Some(sum / all_positives)
    }

    /// False-positive rate and recall.
    pub fn roc(&self) -> Vec<(f64, f64)> {
        let Some((all_positives, all_negatives)) = self.totals() else { return Vec::new() };
        let mut points = vec![(0.0, 0.0)];
        points.extend(self.steps.iter().map(|(p, n)| (n / all_negatives, p / all_positives)));
        thinned(points)
    }

    /// Recall and precision.
    pub fn precision_recall(&self) -> Vec<(f64, f64)> {
        let Some((all_positives, _)) = self.totals() else { return Vec::new() };
        thinned(self.steps.iter().map(|(p, n)| (p / all_positives, p / (p + n))).collect())
    }
}

fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(SHOWN).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.into_iter().enumerate();
    kept.filter(|(at, _)| at % every == 0 || *at == last).map(|(_, point)| point).collect()
}

/// (bin, positives, negatives) of one hour.
type Hour = Vec<(u32, u32, u32)>;

/// Counts by hour and bin, of which whole hours are drawn.
#[derive(Debug, Clone, Default)]
pub struct Binned {
    hours: Vec<Hour>,
}

impl Binned {
    pub fn of(rows: &[Judged]) -> Self {
        let mut scores: Vec<f32> = rows.iter().map(|row| row.surprise).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        let edges: Vec<f32> =
            scores.iter().copied().step_by(scores.len().div_ceil(BINS).max(1)).collect();
        let mut hours: BTreeMap<(u32, i64), Hour> = BTreeMap::new();
        for row in rows {
            let bin = edges.partition_point(|edge| *edge > row.surprise) as u32;
            let hour = hours.entry((row.host, row.hour)).or_default();
            match hour.iter_mut().find(|(known, ..)| *known == bin) {
                Some((_, positives, negatives)) => {
                    *positives += u32::from(row.positive);
                    *negatives += u32::from(!row.positive);
                }
                None => hour.push((bin, u32::from(row.positive), u32::from(!row.positive))),
            }
        }
        Self { hours: hours.into_values().collect() }
    }

    /// As many hours, drawn with replacement, ranked by bins.
    pub fn draw(&self, rng: &mut SmallRng) -> Curve {
        let mut bins = vec![(0.0, 0.0); BINS + 2];
        for _ in 0..self.hours.len() {
            for (bin, positives, negatives) in &self.hours[rng.gen_range(0..self.hours.len())] {
                if let Some(bin) = bins.get_mut(*bin as usize) {
                    bin.0 += f64::from(*positives);
                    bin.1 += f64::from(*negatives);
                }
            }
        }
        let mut sum = (0.0, 0.0);
        let filled = bins.into_iter().filter(|(p, n)| p + n > 0.0);
        let steps = filled.map(|(p, n)| {
            sum = (sum.0 + p, sum.1 + n);
            sum
        });
        Curve { steps: steps.collect() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As scikit-learn's `roc_auc_score` and `average_precision_score` give for the same rows.
    #[test]
    fn areas_are_those_of_the_textbook() {
        let rows = [(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        let curve = Curve::of(rows.into_iter());
        assert!((curve.auroc().unwrap() - 0.75).abs() < 1e-12);
        assert!((curve.average_precision().unwrap() - 0.833_333_333_333_333_3).abs() < 1e-12);
        let tied = Curve::of([(1.0, true), (1.0, false), (0.0, false)].into_iter());
        assert!((tied.auroc().unwrap() - 0.75).abs() < 1e-12);
        assert!((tied.average_precision().unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(Curve::of([(1.0, true)].into_iter()).auroc(), None);
        assert_eq!(curve.roc().last(), Some(&(1.0, 1.0)));
    }
}
