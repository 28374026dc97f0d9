//! Finds planted anomalies, the way any linfa estimator is used.
//!
//! ```sh
//! cargo run --release -p hedgerow-model --example isolation_forest
//! ```

use anyhow::Result;
use hedgerow_model::IsolationForest;
use linfa::dataset::Pr;
use linfa::prelude::*;
use ndarray::{Array1, Array2, s};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const COLUMNS: [&str; 3] = ["latency_ms", "errors_share", "bytes_out"];

/// Rows about a centre; every hundredth is an anomaly: its last column is ten times as large.
fn requests(n_rows: usize, rng: &mut impl Rng) -> Dataset<f64, bool, ndarray::Ix1> {
    let mut records = Array2::zeros((n_rows, 3));
    for mut row in records.rows_mut() {
        row[0] = 20.0 + 5.0 * rng.r#gen::<f64>();
        row[1] = 0.01 * rng.r#gen::<f64>();
        row[2] = 1500.0 * (0.5 + rng.r#gen::<f64>());
    }
    let anomalous = Array1::from_shape_fn(n_rows, |row| row % 100 == 99);
    for (mut row, _) in records.rows_mut().into_iter().zip(&anomalous).filter(|(_, a)| **a) {
        row[2] *= 10.0;
    }
    Dataset::new(records, anomalous).with_feature_names(COLUMNS.to_vec())
}

fn main() -> Result<()> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    // Anomalies may lie among the training rows; targets are not looked at.
    let (train, valid) = requests(4000, &mut rng).split_with_ratio(0.8);

    let forest = IsolationForest::params_with_rng(rng).n_trees(100).sample_size(256).fit(&train)?;
    let scores: Array1<f64> = forest.predict(&valid);

    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let truth = valid.targets().to_vec();
    let planted = truth.iter().filter(|&&anomalous| anomalous).count();
    let found = order[..planted].iter().filter(|&&row| truth[row]).count();
    println!("{found} of {planted} planted anomalies have the {planted} highest scores");
    // Scores lie in (0, 1], so linfa's metrics take them.
    let curve = scores.mapv(|score| Pr::new(score as f32)).roc(&truth)?;
    println!("area under the ROC curve {:.3}", curve.area_under_curve());

    // Why is the first one anomalous? What shortens its path most.
    let row = valid.records().slice(s![order[0], ..]);
    let shap = forest.shap_values(row);
    println!("a path has {:.2} splits on average", shap.baseline);
    for (column, splits) in shap.values.iter().enumerate() {
        println!("{:12} {:9.3}: {splits:+.2}", COLUMNS[column], row[column]);
    }
    Ok(())
}
