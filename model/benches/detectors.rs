//! Fitting and scoring at two widths and three sizes.
//!
//! `cargo bench -p hedgerow-model`; comparisons with other engines are `scripts/bench-model`'s.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hedgerow_model::{Instructions, IsolationForest};
use linfa::DatasetBase;
use linfa::traits::{Fit, Predict};
use ndarray::{Array1, Array2};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const WIDTHS: [usize; 2] = [8, 32];
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

fn rows(n_rows: usize, n_columns: usize) -> Array2<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    Array2::from_shape_fn((n_rows, n_columns), |_| rng.r#gen::<f32>() + rng.r#gen::<f32>())
}

fn fit(c: &mut Criterion) {
    let mut group = c.benchmark_group("fit");
    for (n_columns, n_rows) in WIDTHS.into_iter().flat_map(|w| SIZES.map(|n| (w, n))) {
        let dataset = DatasetBase::from(rows(n_rows, n_columns));
        let id = BenchmarkId::from_parameter(format!("{n_rows} x {n_columns}"));
        group.bench_with_input(id, &dataset, |b, dataset| {
            b.iter(|| black_box(IsolationForest::params().fit(dataset)));
        });
    }
    group.finish();
}

fn score(c: &mut Criterion) {
    let mut group = c.benchmark_group("score");
    group.sample_size(10);
    for (n_columns, n_rows) in WIDTHS.into_iter().flat_map(|w| SIZES.map(|n| (w, n))) {
        let rows = rows(n_rows, n_columns);
        let Ok(forest) = IsolationForest::params().fit(&DatasetBase::from(rows.view())) else {
            panic!("these rows can be fitted");
        };
        group.throughput(Throughput::Elements(n_rows as u64));
        for instructions in [Instructions::Detected, Instructions::Portable] {
            let forest = forest.clone().with_instructions(instructions);
            let id =
                BenchmarkId::new(format!("{instructions:?}"), format!("{n_rows} x {n_columns}"));
            group.bench_with_input(id, &rows, |b, rows| {
                b.iter(|| -> Array1<f32> { black_box(forest.predict(rows)) });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, fit, score);
criterion_main!(benches);
