//! Learning on: replacing a share of the trees by ones grown on newer rows.

use linfa::Float;
use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, FitWith};
use ndarray::{ArrayBase, ArrayView2, Data, Ix2};
use rand::Rng;

use super::algorithm::{IsolationForest, checked_sample_size, grow_trees};
use super::errors::IsolationForestError;
use super::hyperparams::{IsolationForestValidParams, Replacement};
use crate::engine::MissingForest;
use crate::rows::to_f32;
use crate::tree::Tree;

/// Rows by which the worst trees are found.
const JUDGING_ROWS: usize = 512;

impl<'a, F, D, R, T> FitWith<'a, ArrayBase<D, Ix2>, T, IsolationForestError>
    for IsolationForestValidParams<R>
where
    F: Float,
    D: Data<Elem = F> + 'a,
    R: Rng + Clone,
    T: 'a,
{
    type ObjectIn = Option<IsolationForest>;
    type ObjectOut = IsolationForest;

    /// Replaces `replaced_share` of the model's trees, at least one, by trees grown on the records,
    /// or fits a forest if there is no model yet. The number of trees and psi stay the model's, so
    /// its scores keep their scale.
    ///
    /// Trees get new seeds at every update: the generator goes on where the model's growth stopped.
    ///
    /// # Errors
    /// If the records have other columns than the model, or fewer rows than its psi.
    fn fit_with(
        &self,
        model: Option<IsolationForest>,
        dataset: &'a DatasetBase<ArrayBase<D, Ix2>, T>,
    ) -> Result<IsolationForest, IsolationForestError> {
        let Some(model) = model else {
            return self.fit(dataset);
        };
        let records = dataset.records().view();
        let (expected, found) = (model.n_features(), records.ncols());
        if expected != found {
            return Err(IsolationForestError::ColumnMismatch { expected, found });
        }
        let psi = model.sample_size() as usize;
        if checked_sample_size(&records, psi)? < psi {
            return Err(IsolationForestError::TooFewRows { needed: psi, found: records.nrows() });
        }
        let n_trees = model.trees().len();
        let n_replaced = ((n_trees as f64 * self.replaced_share()).ceil() as usize).min(n_trees);
        let mut rng = self.rng().clone();
        for _ in 0..model.trees_grown() {
            rng.r#gen::<u64>();
        }
        let seeds: Vec<u64> = (0..n_replaced).map(|_| rng.r#gen()).collect();
        let grown = grow_trees(records, psi, &seeds, self.n_threads());
        let leaving = match self.replacement() {
            Replacement::Oldest => (0..n_replaced).collect(),
            Replacement::Worst => worst_trees(model.trees(), records, n_replaced),
        };
        model.replace_trees(&leaving, grown)
    }
}

/// The trees on which the records' mean path is shortest, the older first among equals.
fn worst_trees<F: Float>(trees: &[Tree], records: ArrayView2<'_, F>, n: usize) -> Vec<usize> {
    let forest = MissingForest::new(trees);
    let mut order: Vec<(usize, u64)> = (0..trees.len()).map(|index| (index, 0)).collect();
    for row in records.rows().into_iter().step_by(records.nrows().div_ceil(JUDGING_ROWS)) {
        let row: Vec<f32> = row.iter().map(|&value| to_f32(value)).collect();
        for ((_, sum), tree) in order.iter_mut().zip(trees) {
            *sum += u64::from(forest.path_length(tree, &row));
        }
    }
    order.sort_by_key(|&(_, sum)| sum);
    order.into_iter().take(n).map(|(index, _)| index).collect()
}
