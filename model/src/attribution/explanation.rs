//! A decomposition in a reader's terms.

use linfa::Float;
use ndarray::{Array1, ArrayView1};

use crate::columns::ColumnSummary;
use crate::rows::to_f32;

/// What the columns' amounts add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Quantity {
    /// Bits by which the row's paths isolate it sooner than halving would
    /// ([`path_surprise`](crate::IsolationForest::path_surprise)).
    SurpriseBits,
    /// Splits by which the row's mean path is shorter than the training rows'
    /// ([`shap_values`](crate::IsolationForest::shap_values), negated).
    PathShortening,
    /// Distance to the nearest drawn rows, in standard deviations
    /// ([`distance_by_column`](crate::NearestNeighborEnsemble::distance_by_column)).
    Distance,
}

/// Where a value lies in its column's usual range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Direction {
    /// Below the 1 % quantile of training.
    Below,
    /// Between the 1 % and the 99 % quantile; unusual, if at all, together with other columns.
    Within,
    /// Above the 99 % quantile.
    Above,
    /// The value is missing.
    Missing,
}

/// One column's part in an explanation.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ColumnShare {
    /// Position of the column.
    pub column: usize,
    /// The row's value, NaN if it is missing.
    pub value: f32,
    /// 1 % quantile of the training rows.
    pub usual_low: f32,
    /// Median of the training rows.
    pub usual: f32,
    /// 99 % quantile of the training rows.
    pub usual_high: f32,
    /// Where the value lies in the usual range.
    pub direction: Direction,
    /// Part of [`Explanation::total`]; negative where the column speaks for a usual row.
    pub amount: f64,
    /// Part of everything that speaks for an anomaly: the amount, if positive, over the sum of the
    /// positive amounts. In \[0, 1\]; the shares of a row sum to 1 unless all are 0.
    pub share: f64,
}

/// A row's decomposition, the most telling column first.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Explanation {
    /// What the amounts divide.
    pub quantity: Quantity,
    /// Sum of the amounts.
    pub total: f64,
    /// All columns by falling amount; equal amounts by column.
    pub columns: Vec<ColumnShare>,
}

impl Explanation {
    /// Joins each column's amount with the row's value and the training rows' usual range.
    ///
    /// # Panics
    /// If amounts, row and summaries differ in length.
    #[must_use]
    pub fn new<F: Float>(
        quantity: Quantity,
        amounts: &Array1<f64>,
        row: ArrayView1<'_, F>,
        usual: &[ColumnSummary],
    ) -> Self {
        assert_eq!(amounts.len(), row.len(), "one amount for each value");
        assert_eq!(amounts.len(), usual.len(), "one summary for each value");
        let positive: f64 = amounts.iter().map(|amount| amount.max(0.0)).sum();
        let mut columns: Vec<ColumnShare> = (amounts.iter().zip(row).zip(usual))
            .enumerate()
            .map(|(column, ((&amount, &value), usual))| {
                let value = to_f32(value);
                ColumnShare {
                    column,
                    value,
                    usual_low: usual.low,
                    usual: usual.median,
                    usual_high: usual.high,
                    direction: direction_of(value, usual),
                    amount,
                    share: if positive > 0.0 { amount.max(0.0) / positive } else { 0.0 },
                }
            })
            .collect();
        columns.sort_by(|a, b| b.amount.total_cmp(&a.amount));
        Explanation { quantity, total: amounts.sum(), columns }
    }
}

fn direction_of(value: f32, usual: &ColumnSummary) -> Direction {
    if value.is_nan() {
        Direction::Missing
    } else if value < usual.low {
        Direction::Below
    } else if value > usual.high {
        Direction::Above
    } else {
        Direction::Within
    }
}
