//! A bounded sample of recent rows.

use crate::calibration::split_mix;
use ndarray::{ArrayView1, ArrayView2};

/// A sample of rows that forgets: once full, each new row replaces a random one (Aggarwal 2006,
/// biased reservoir sampling), so that a row is still there after `t` further ones with
/// probability `(1 - 1 / capacity)^t`. Trees are replaced from it.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "RawReservoir"))]
pub struct SlidingReservoir {
    capacity: usize,
    n_columns: usize,
    offered: u64,
    values: Vec<f32>,
}

#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct RawReservoir {
    capacity: usize,
    n_columns: usize,
    offered: u64,
    values: Vec<f32>,
}

#[cfg(feature = "serde")]
impl TryFrom<RawReservoir> for SlidingReservoir {
    type Error = &'static str;

    fn try_from(raw: RawReservoir) -> Result<Self, Self::Error> {
        let rows = raw.values.len().checked_div(raw.n_columns).unwrap_or(0);
        let whole = raw.n_columns > 0 && raw.values.len() == rows * raw.n_columns;
        if !whole || raw.capacity == 0 || rows > raw.capacity || (rows as u64) > raw.offered {
            return Err("reservoir: sizes contradict each other");
        }
        if rows < raw.capacity && raw.offered != rows as u64 {
            return Err("reservoir: fewer rows than were offered");
        }
        Ok(SlidingReservoir {
            capacity: raw.capacity,
            n_columns: raw.n_columns,
            offered: raw.offered,
            values: raw.values,
        })
    }
}

impl SlidingReservoir {
    /// An empty reservoir for at most `capacity` rows of `n_columns` columns, at least one of each.
    pub fn new(capacity: usize, n_columns: usize) -> Self {
        let (capacity, n_columns) = (capacity.max(1), n_columns.max(1));
        SlidingReservoir { capacity, n_columns, offered: 0, values: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If the row has another number of columns.
    pub fn add(&mut self, row: ArrayView1<'_, f32>) {
        assert_eq!(row.len(), self.n_columns, "columns of the row and the reservoir");
        self.offered = self.offered.wrapping_add(1);
        if self.len() < self.capacity {
            self.values.extend(row.iter());
            return;
        }
        let slot = (split_mix(self.offered) % self.capacity as u64) as usize * self.n_columns;
        let kept = &mut self.values[slot..slot + self.n_columns];
        kept.iter_mut().zip(row).for_each(|(to, &from)| *to = from);
    }

    /// The rows held (rows x columns).
    pub fn records(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((self.len(), self.n_columns), &self.values)
            .expect("only whole rows are added")
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.values.len() / self.n_columns
    }

    /// Whether no rows are held.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_newest_row_is_in_and_old_ones_fade() {
        let mut reservoir = SlidingReservoir::new(100, 2);
        for i in 0..1_000_u16 {
            reservoir.add(array![f32::from(i), -1.0].view());
            assert!(reservoir.records().column(0).iter().any(|&v| v == f32::from(i)));
        }
        assert_eq!(reservoir.records().dim(), (100, 2));
        let ages = reservoir.records().column(0).mapv(|i| 999.0 - i);
        // Geometric with mean 100.
        let mean = ages.mean().unwrap_or(f32::NAN);
        assert!((70.0..135.0).contains(&mean), "{mean}");
    }
}
