//! A bounded sample of recent rows to learn on from.

use ndarray::ArrayView2;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use thiserror::Error;

/// Why a reservoir can't be made or fed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReservoirError {
    /// Capacity and columns must be positive and fit memory.
    #[error("a reservoir of {capacity} rows of {n_columns} columns")]
    Size {
        /// Rows that it should keep.
        capacity: usize,
        /// Columns of a row.
        n_columns: usize,
    },
    /// The horizon must be at least the capacity.
    #[error("a horizon of {horizon} rows is less than the capacity of {capacity}")]
    Horizon {
        /// Rows that it should look back on.
        horizon: u64,
        /// Rows that it keeps.
        capacity: usize,
    },
    /// The row has another number of columns.
    #[error("a row of {found} columns in a reservoir of {expected}")]
    ColumnMismatch {
        /// Columns of the reservoir.
        expected: usize,
        /// Columns of the row.
        found: usize,
    },
}

/// A sliding reservoir: keeps at most `capacity` rows, among them each of the last rows with a
/// probability that falls exponentially with age, by a factor of e every `horizon` rows (Aggarwal,
/// "On biased reservoir sampling in the presence of stream evolution", VLDB 2006).
///
/// When full, a row that comes in replaces a random one; memory never grows. Rows of an open alert
/// must not be pushed: what is learned counts as normal.
///
/// ```
/// use hedgerow_model::IsolationForest;
/// use hedgerow_model::reservoir::SlidingReservoir;
/// use linfa::DatasetBase;
/// use linfa::traits::{Fit, FitWith};
/// use ndarray::Array2;
///
/// let rows = Array2::from_shape_fn((3000, 2), |(i, j)| ((i * (j + 3)) as f32 * 0.7).sin());
/// let params = IsolationForest::params().replaced_share(0.2);
/// let mut forest = params.fit(&DatasetBase::from(rows.view()))?;
///
/// let mut reservoir = SlidingReservoir::new(1024, 2, 2048, 7)?;
/// for row in rows.rows() {
///     reservoir.push(row.as_slice().unwrap_or_default())?;
/// }
/// forest = params.fit_with(Some(forest), &DatasetBase::from(reservoir.rows()))?;
/// assert_eq!(forest.trees().len(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "StoredReservoir", into = "StoredReservoir"))]
pub struct SlidingReservoir {
    capacity: usize,
    n_columns: usize,
    horizon: u64,
    rows: Vec<f32>,
    rng: Xoshiro256PlusPlus,
}

/// Most values that a reservoir keeps (1 GiB).
const MAX_VALUES: usize = 1 << 28;

impl SlidingReservoir {
    /// An empty reservoir of `capacity` rows of `n_columns`, which looks back on about `horizon`
    /// rows.
    ///
    /// # Errors
    /// If a size is zero or their product exceeds 2^28, or the horizon is below the capacity.
    pub fn new(
        capacity: usize,
        n_columns: usize,
        horizon: u64,
        seed: u64,
    ) -> Result<Self, ReservoirError> {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self::checked(SlidingReservoir { capacity, n_columns, horizon, rows: Vec::new(), rng })
    }

    fn checked(self) -> Result<Self, ReservoirError> {
        let SlidingReservoir { capacity, n_columns, horizon, .. } = self;
        let values = capacity.checked_mul(n_columns);
        if !values.is_some_and(|values| (1..=MAX_VALUES).contains(&values)) {
            return Err(ReservoirError::Size { capacity, n_columns });
        }
        if horizon < capacity as u64 {
            return Err(ReservoirError::Horizon { horizon, capacity });
        }
        Ok(self)
    }

    /// Offers a row. While there is room every row is kept; then one in `horizon / capacity`, each
    /// in the place of a random row.
    ///
    /// # Errors
    /// If the row has another number of columns.
    pub fn push(&mut self, row: &[f32]) -> Result<(), ReservoirError> {
        if row.len() != self.n_columns {
            let (expected, found) = (self.n_columns, row.len());
            return Err(ReservoirError::ColumnMismatch { expected, found });
        }
        if self.len() < self.capacity {
            self.rows.extend_from_slice(row);
        } else if self.rng.gen_range(0..self.horizon) < self.capacity as u64 {
            let slot = self.rng.gen_range(0..self.capacity) * self.n_columns;
            self.rows[slot..slot + self.n_columns].copy_from_slice(row);
        }
        Ok(())
    }

    /// Rows that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len() / self.n_columns
    }

    /// Whether no row is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows that are kept, in no order: (len, columns).
    #[must_use]
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        let shape = (self.len(), self.n_columns);
        ArrayView2::from_shape(shape, &self.rows).expect("whole rows are kept")
    }
}

/// What is stored of a reservoir.
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct StoredReservoir {
    capacity: usize,
    n_columns: usize,
    horizon: u64,
    rows: Vec<f32>,
    rng: Xoshiro256PlusPlus,
}

impl From<SlidingReservoir> for StoredReservoir {
    fn from(reservoir: SlidingReservoir) -> Self {
        let SlidingReservoir { capacity, n_columns, horizon, rows, rng } = reservoir;
        StoredReservoir { capacity, n_columns, horizon, rows, rng }
    }
}

impl TryFrom<StoredReservoir> for SlidingReservoir {
    type Error = ReservoirError;

    fn try_from(stored: StoredReservoir) -> Result<Self, Self::Error> {
        let StoredReservoir { capacity, n_columns, horizon, rows, rng } = stored;
        let whole = n_columns > 0 && rows.len() % n_columns == 0;
        if !whole || rows.len() / n_columns > capacity {
            return Err(ReservoirError::Size { capacity, n_columns });
        }
        SlidingReservoir { capacity, n_columns, horizon, rows, rng }.checked()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn age_falls_off_exponentially_and_memory_is_bounded() {
        let mut reservoir = SlidingReservoir::new(500, 1, 5000, 1).unwrap();
        for row in 0..50_000 {
            reservoir.push(&[row as f32]).unwrap();
        }
        assert_eq!(reservoir.len(), 500);
        let ages: Vec<f64> =
            reservoir.rows().iter().map(|&row| 50_000.0 - f64::from(row)).collect();
        let mean = ages.iter().sum::<f64>() / 500.0;
        // An exponential of mean 5,000 has a mean of 500 draws within 5,000 ± 4 * 224.
        assert!((4100.0..5900.0).contains(&mean), "{mean}");
        let recent = ages.iter().filter(|&&age| age < 5000.0 * std::f64::consts::LN_2).count();
        assert!((200..300).contains(&recent), "half are younger than the half-life: {recent}");
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        let new = |capacity, columns, horizon| SlidingReservoir::new(capacity, columns, horizon, 1);
        for (capacity, n_columns) in [(0, 1), (1, 0), (1 << 20, 1 << 20), (usize::MAX, 2)] {
            let error = new(capacity, n_columns, u64::MAX).unwrap_err();
            assert_eq!(error, ReservoirError::Size { capacity, n_columns });
        }
        assert!(matches!(new(10, 1, 9).unwrap_err(), ReservoirError::Horizon { .. }));
        let mut reservoir = new(10, 2, 10).unwrap();
        assert!(reservoir.is_empty());
        assert!(matches!(
            reservoir.push(&[1.0]).unwrap_err(),
            ReservoirError::ColumnMismatch { expected: 2, found: 1 }
        ));
    }
}
