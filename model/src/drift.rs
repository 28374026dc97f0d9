//! Has a feature's distribution moved since training? The population stability index of each column.

use ndarray::{ArrayView1, ArrayView2, Axis};
use thiserror::Error;

/// From here on a feature is watched.
pub const PSI_WATCH: f64 = 0.1;
/// From here on a model should be replaced, or the change be accepted.
pub const PSI_ACT: f64 = 0.25;
/// Bins by training quantiles, at most; one more holds missing values.
pub const PSI_BINS: usize = 10;
/// Fewest rows on either side: without any drift the index has a mean of about
/// `bins (1 / n + 1 / m)`, which must stay well below [`PSI_WATCH`].
pub const PSI_MIN_ROWS: u64 = 500;

/// Why there is no reference or no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DriftError {
    /// Fewer rows than an index means anything for.
    #[error("{rows} rows; drift needs {PSI_MIN_ROWS}")]
    TooFewRows {
        /// Rows there are.
        rows: u64,
    },
    /// Rows of another width than the reference.
    #[error("rows of {got} columns; the reference has {expected}")]
    Columns {
        /// Columns of the rows.
        got: usize,
        /// Columns of the reference.
        expected: usize,
    },
}

/// How far a feature has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Drift {
    /// Below [`PSI_WATCH`].
    Stable,
    /// From [`PSI_WATCH`] to [`PSI_ACT`].
    Watch,
    /// At or above [`PSI_ACT`].
    Act,
}

/// The index of one column.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ColumnDrift {
    /// Column of the records.
    pub column: usize,
    /// `sum over bins of (actual - expected) ln(actual / expected)`.
    pub psi: f64,
    /// What it means.
    pub drift: Drift,
}

/// Shares of the training rows in bins by training quantiles, for each column.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PsiReference {
    rows: u64,
    columns: Vec<Bins>,
}

/// Bin `i` holds values at or below `edges[i]`, the next to last bin values above all edges, the
/// last one missing values.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Bins {
    edges: Vec<f32>,
    counts: Vec<u64>,
}

impl Bins {
    fn bin_of(&self, value: f32) -> usize {
        if value.is_nan() {
            self.edges.len() + 1
        } else {
            self.edges.partition_point(|&edge| edge < value)
        }
    }

    fn fit(values: ArrayView1<'_, f32>) -> Self {
        let mut sorted: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let mut edges: Vec<f32> = if sorted.is_empty() {
            Vec::new()
        } else {
            (1..PSI_BINS).map(|i| sorted[(sorted.len() - 1) * i / PSI_BINS]).collect()
        };
        // Ties: a value that fills several bins gets one; one that was constant still gets an edge
        // on each side of it, or a constant column could never drift.
        edges.dedup();
        if let (Some(&lowest), Some(&first)) = (sorted.first(), edges.first())
            && first == lowest
        {
            edges.insert(0, lowest.next_down());
        }
        let mut bins = Bins { counts: vec![0; edges.len() + 2], edges };
        for &value in values {
            let bin = bins.bin_of(value);
            bins.counts[bin] += 1;
        }
        bins
    }
}

impl PsiReference {
    /// The bins of training records (rows x columns).
    ///
    /// # Errors
    /// [`DriftError::TooFewRows`] below [`PSI_MIN_ROWS`].
    pub fn fit(records: ArrayView2<'_, f32>) -> Result<Self, DriftError> {
        let rows = records.nrows() as u64;
        if rows < PSI_MIN_ROWS {
            return Err(DriftError::TooFewRows { rows });
        }
        Ok(PsiReference { rows, columns: records.axis_iter(Axis(1)).map(Bins::fit).collect() })
    }

    /// A monitor with nothing counted yet.
    pub fn monitor(&self) -> PsiMonitor<'_> {
        let counts = self.columns.iter().map(|bins| vec![0; bins.counts.len()]).collect();
        PsiMonitor { reference: self, rows: 0, counts }
    }
}

/// Counts rows of life in the bins of a reference.
#[derive(Debug, Clone, PartialEq)]
pub struct PsiMonitor<'a> {
    reference: &'a PsiReference,
    rows: u64,
    counts: Vec<Vec<u64>>,
}

impl PsiMonitor<'_> {
    /// Counts rows (rows x columns of the reference).
    ///
    /// # Errors
    /// [`DriftError::Columns`].
    pub fn add(&mut self, records: ArrayView2<'_, f32>) -> Result<(), DriftError> {
        let expected = self.reference.columns.len();
        if records.ncols() != expected {
            return Err(DriftError::Columns { got: records.ncols(), expected });
        }
        self.rows += records.nrows() as u64;
        let columns = records.axis_iter(Axis(1)).zip(&self.reference.columns);
        for ((values, bins), counts) in columns.zip(&mut self.counts) {
            for &value in values {
                counts[bins.bin_of(value)] += 1;
            }
        }
        Ok(())
    }

    /// The index of every column. Half a row is added to each bin on both sides, so that an empty
    /// one does not make it infinite.
    ///
    /// # Errors
    /// [`DriftError::TooFewRows`] below [`PSI_MIN_ROWS`].
    pub fn drift(&self) -> Result<Vec<ColumnDrift>, DriftError> {
        if self.rows < PSI_MIN_ROWS {
            return Err(DriftError::TooFewRows { rows: self.rows });
        }
        let columns = self.reference.columns.iter().zip(&self.counts).enumerate();
        Ok(columns
            .map(|(column, (bins, counts))| {
                let share = |count: u64, rows: u64| {
                    (count as f64 + 0.5) / (rows as f64 + 0.5 * counts.len() as f64)
                };
                let psi = bins.counts.iter().zip(counts).map(|(&expected, &actual)| {
                    let expected = share(expected, self.reference.rows);
                    let actual = share(actual, self.rows);
                    (actual - expected) * (actual / expected).ln()
                });
                let psi = psi.sum();
                ColumnDrift { column, psi, drift: meaning(psi) }
            })
            .collect())
    }
}

fn meaning(psi: f64) -> Drift {
    if psi >= PSI_ACT {
        Drift::Act
    } else if psi >= PSI_WATCH {
        Drift::Watch
    } else {
        Drift::Stable
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::Array2;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    /// A bell (sum of four uniforms), a count with many ties, a constant, a column half missing.
    fn records(rows: usize, shift: f32, seed: u64) -> Array2<f32> {
        let mut rng = SmallRng::seed_from_u64(seed);
        Array2::from_shape_fn((rows, 4), |(_, j)| match j {
            0 => (0..4).map(|_| rng.gen_range(-1.0..1.0_f32)).sum::<f32>() + shift,
            1 => rng.gen_range(0..4_u8).saturating_sub(2).into(),
            2 => 7.0,
            _ if rng.gen_bool(0.5) => f32::NAN,
            _ => rng.r#gen(),
        })
    }

    fn drift(shift: f32, change: impl Fn(&mut Array2<f32>)) -> Vec<Drift> {
        let train = records(4_000, 0.0, 1);
        let reference = PsiReference::fit(train.view()).unwrap();
        let mut monitor = reference.monitor();
        let mut life = records(2_000, shift, 2);
        change(&mut life);
        monitor.add(life.view()).unwrap();
        monitor.drift().unwrap().iter().map(|c| c.drift).collect()
    }

    #[test]
    fn the_same_distribution_is_stable() {
        assert_eq!(drift(0.0, |_| {}), [Drift::Stable; 4]);
    }

    #[test]
    fn a_shift_of_the_mean_is_watched_and_then_acted_on() {
        // One standard deviation is 1.15; the index of a shift by d deviations is about d².
        assert_eq!(drift(0.45, |_| {})[0], Drift::Watch);
        assert_eq!(drift(0.8, |_| {})[0], Drift::Act);
    }

    #[test]
    fn a_constant_that_changes_and_values_that_go_missing_are_drift() {
        let after = drift(0.0, |life| {
            life.column_mut(2).fill(7.5);
            life.column_mut(3).fill(f32::NAN);
        });
        assert_eq!(after, [Drift::Stable, Drift::Stable, Drift::Act, Drift::Act]);
        assert_eq!(drift(0.0, |life| life.column_mut(2).fill(6.5))[2], Drift::Act);
    }

    #[test]
    fn few_rows_say_nothing() {
        let few = records(499, 0.0, 1);
        assert_eq!(PsiReference::fit(few.view()), Err(DriftError::TooFewRows { rows: 499 }));
        let train = records(500, 0.0, 1);
        let reference = PsiReference::fit(train.view()).unwrap();
        let mut monitor = reference.monitor();
        monitor.add(few.view()).unwrap();
        assert_eq!(monitor.drift(), Err(DriftError::TooFewRows { rows: 499 }));
        let narrow = Array2::zeros((1, 3));
        let error = DriftError::Columns { got: 3, expected: 4 };
        assert_eq!(monitor.add(narrow.view()), Err(error));
    }
}
