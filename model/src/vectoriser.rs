//! From raw columns to what estimators read: log1p, robust scaling, constants dropped.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use thiserror::Error;

/// Interquartile range of the standard normal: makes a robust scale comparable to a deviation.
const NORMAL_IQR: f64 = 1.349;

/// Why a vectoriser was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VectoriserError {
    /// `log1p` has another length than the records have columns.
    #[error("{flags} log1p flags for {columns} columns")]
    FlagCount {
        /// Length of `log1p`.
        flags: usize,
        /// Columns of the records.
        columns: usize,
    },
    /// No rows to fit on.
    #[error("no rows to fit a vectoriser on")]
    NoRows,
}

/// What happens to one column.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ColumnTransform {
    /// `(f(x) - centre) / scale`, where `f` is `sign(x) ln(1 + |x|)` or the identity.
    Scale {
        /// Whether the logarithm is taken.
        log1p: bool,
        /// Median of the (logarithmic) training values.
        centre: f32,
        /// Interquartile range / 1.349 of these, or their standard deviation where that is zero.
        scale: f32,
    },
    /// The column had this one value (NaN: none) in training, and is left out.
    Constant(f32),
}

/// Turns records of raw columns into the matrix that estimators read.
///
/// A forest cannot split a column that was constant in training, and a distance would be ruled by
/// it; so it is left out, and [`Vectoriser::departures`] says where a row leaves such a constant.
/// NaN ("unavailable") stays NaN; infinite values become NaN.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "RawVectoriser"))]
pub struct Vectoriser {
    columns: Vec<ColumnTransform>,
}

#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct RawVectoriser {
    columns: Vec<ColumnTransform>,
}

#[cfg(feature = "serde")]
impl TryFrom<RawVectoriser> for Vectoriser {
    type Error = &'static str;

    fn try_from(raw: RawVectoriser) -> Result<Self, Self::Error> {
        let sane = |column: &ColumnTransform| match *column {
            ColumnTransform::Scale { centre, scale, .. } => {
                centre.is_finite() && scale.is_finite() && scale > 0.0
            }
            ColumnTransform::Constant(value) => !value.is_infinite(),
        };
        if !raw.columns.iter().all(sane) {
            return Err("vectoriser: a centre or scale is out of range");
        }
        Ok(Vectoriser { columns: raw.columns })
    }
}

impl Vectoriser {
    /// Fits on training records (rows x columns); `log1p[j]` asks for the logarithm of column `j`,
    /// as counts, bytes and times want it.
    ///
    /// # Errors
    /// If there are no rows, or not one flag a column.
    pub fn fit(records: ArrayView2<'_, f32>, log1p: &[bool]) -> Result<Self, VectoriserError> {
        if log1p.len() != records.ncols() {
            return Err(VectoriserError::FlagCount {
                flags: log1p.len(),
                columns: records.ncols(),
            });
        }
        if records.nrows() == 0 {
            return Err(VectoriserError::NoRows);
        }
        let columns = records.axis_iter(Axis(1)).zip(log1p);
        Ok(Vectoriser {
            columns: columns.map(|(values, &log1p)| fit_column(values, log1p)).collect(),
        })
    }

    /// What happens to each raw column.
    pub fn columns(&self) -> &[ColumnTransform] {
        &self.columns
    }

    /// Raw columns that [`Vectoriser::transform`] expects.
    pub fn n_raw(&self) -> usize {
        self.columns.len()
    }

    /// Indices of the raw columns that are kept, in the order of the transformed ones.
    pub fn kept(&self) -> impl Iterator<Item = usize> + '_ {
        let scaled = |column: &ColumnTransform| matches!(column, ColumnTransform::Scale { .. });
        self.columns.iter().enumerate().filter(move |(_, c)| scaled(c)).map(|(index, _)| index)
    }

    /// Transforms rows of raw columns into (rows, kept columns).
    ///
    /// # Panics
    /// If the rows have other than [`Vectoriser::n_raw`] columns.
    pub fn transform(&self, records: ArrayView2<'_, f32>) -> Array2<f32> {
        assert_eq!(records.ncols(), self.n_raw(), "columns of the records and the vectoriser");
        let mut out = Array2::zeros((records.nrows(), self.kept().count()));
        for (target, source) in self.kept().enumerate() {
            let ColumnTransform::Scale { log1p, centre, scale } = self.columns[source] else {
                continue;
            };
            let values = records.column(source);
            for (to, &from) in out.column_mut(target).iter_mut().zip(values) {
                *to = ((curved(from, log1p) - centre) / scale).clamp(-f32::MAX, f32::MAX);
            }
        }
        out
    }

    /// The raw value of a transformed one of raw column `index`: to show ranges in the reader's
    /// units. `None` for a constant or unknown column.
    pub fn invert(&self, index: usize, value: f32) -> Option<f32> {
        match *self.columns.get(index)? {
            ColumnTransform::Scale { log1p, centre, scale } => {
                let curved = value * scale + centre;
                Some(if log1p { curved.abs().exp_m1().copysign(curved) } else { curved })
            }
            ColumnTransform::Constant(_) => None,
        }
    }

    /// Raw columns that were constant in training and have another (finite) value in this row.
    pub fn departures(&self, row: ArrayView1<'_, f32>) -> Vec<usize> {
        let pairs = self.columns.iter().zip(row).enumerate();
        pairs
            .filter(|(_, (column, value))| match **column {
                ColumnTransform::Constant(known) => value.is_finite() && **value != known,
                ColumnTransform::Scale { .. } => false,
            })
            .map(|(index, _)| index)
            .collect()
    }
}

fn curved(value: f32, log1p: bool) -> f32 {
    if !value.is_finite() {
        f32::NAN
    } else if log1p {
        value.abs().ln_1p().copysign(value)
    } else {
        value
    }
}

fn fit_column(values: ArrayView1<'_, f32>, log1p: bool) -> ColumnTransform {
    let mut curve: Vec<f32> =
        values.iter().map(|&v| curved(v, log1p)).filter(|v| !v.is_nan()).collect();
    curve.sort_unstable_by(f32::total_cmp);
    let raw = values.iter().copied().find(|v| v.is_finite()).unwrap_or(f32::NAN);
    let (Some(&lowest), Some(&highest)) = (curve.first(), curve.last()) else {
        return ColumnTransform::Constant(f32::NAN);
    };
    if lowest == highest {
        return ColumnTransform::Constant(raw);
    }
    let quantile = |share: f64| f64::from(curve[((curve.len() - 1) as f64 * share) as usize]);
    let robust = (quantile(0.75) - quantile(0.25)) / NORMAL_IQR;
    let scale = if robust > 0.0 { robust } else { deviation(&curve) } as f32;
    // Values that differ by less than f32 can scale.
    if !(scale > 0.0 && scale.is_finite()) {
        return ColumnTransform::Constant(raw);
    }
    ColumnTransform::Scale { log1p, centre: quantile(0.5) as f32, scale }
}

fn deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;

    #[test]
    fn constants_are_dropped_and_departures_from_them_are_named() {
        let records = array![
            [1.0, 7.0, f32::NAN, 0.0],
            [2.0, 7.0, f32::NAN, 0.0],
            [3.0, 7.0, f32::NAN, 9.0],
        ];
        let vectoriser = Vectoriser::fit(records.view(), &[false; 4]).unwrap();
        assert_eq!(vectoriser.kept().collect::<Vec<_>>(), [0, 3]);
        assert_eq!(vectoriser.transform(records.view()).dim(), (3, 2));
        let row = array![1.0, 8.0, 5.0, 0.0];
        assert_eq!(vectoriser.departures(row.view()), [1, 2]);
        assert_eq!(vectoriser.departures(records.row(0)), [0; 0]);
    }

    #[test]
    fn the_middle_half_of_a_column_comes_to_unit_scale() {
        let records = Array2::from_shape_fn((1001, 2), |(i, j)| i as f32 * [1.0, 1e-4][j]);
        let vectoriser = Vectoriser::fit(records.view(), &[false, true]).unwrap();
        let scaled = vectoriser.transform(records.view());
        for column in scaled.columns() {
            assert!(column[500].abs() < 1e-6);
            assert!((column[750] - column[250] - NORMAL_IQR as f32).abs() < 1e-3);
        }
        for (index, raw) in [(0, 620.0), (1, 0.062)] {
            let back = vectoriser.invert(index, scaled[[620, index]]).unwrap();
            assert!((back - raw).abs() < 1e-3 * raw, "{back} {raw}");
        }
    }

    #[test]
    fn what_is_missing_stays_missing() {
        let records = array![[1.0, f32::INFINITY], [f32::NAN, 2.0], [3.0, 4.0]];
        let vectoriser = Vectoriser::fit(records.view(), &[true, false]).unwrap();
        let scaled = vectoriser.transform(records.view());
        let missing: Vec<_> = scaled.iter().map(|v| v.is_nan()).collect();
        assert_eq!(missing, [false, true, true, false, false, false]);
    }

    #[test]
    fn flags_must_match_the_columns() {
        let error = Vectoriser::fit(array![[1.0]].view(), &[]).unwrap_err();
        assert_eq!(error, VectoriserError::FlagCount { flags: 0, columns: 1 });
        let none = Array2::zeros((0, 1));
        assert_eq!(Vectoriser::fit(none.view(), &[true]).unwrap_err(), VectoriserError::NoRows);
    }
}
