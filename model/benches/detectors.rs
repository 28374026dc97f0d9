//! Fitting and scoring at two widths and three sizes.
//!
//! `cargo bench -p hedgerow-model`; comparisons with other engines are `scripts/bench-model`'s.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hedgerow_model::{Instructions, IsolationForest, NearestNeighborEnsemble};
use linfa::DatasetBase;
use linfa::traits::{Fit, Predict};
use ndarray::{Array1, Array2};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const WIDTHS: [usize; 2] = [8, 32];
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

type Rows = DatasetBase<Array2<f32>, Array1<()>>;

/// A data set of each width and size.
fn datasets() -> impl Iterator<Item = (String, Rows)> {
    WIDTHS.into_iter().flat_map(|width| SIZES.map(|size| (width, size))).map(|(width, size)| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let rows =
            Array2::from_shape_fn((size, width), |_| rng.r#gen::<f32>() + rng.r#gen::<f32>());
        (format!("{size} x {width}"), DatasetBase::from(rows))
    })
}

/// Times `fit` on every data set.
fn time_fit<M, E>(c: &mut Criterion, name: &str, fit: impl Fn(&Rows) -> Result<M, E>) {
    let mut group = c.benchmark_group(format!("{name}/fit"));
    group.sample_size(10);
    for (id, rows) in datasets() {
        group.bench_with_input(BenchmarkId::from_parameter(id), &rows, |b, rows| {
            b.iter(|| black_box(fit(rows).is_ok()));
        });
    }
    group.finish();
}

/// Times scoring every data set with the model that `fit` makes of it.
fn time_score<M, E>(c: &mut Criterion, name: &str, fit: impl Fn(&Rows) -> Result<M, E>)
where
    M: for<'a> Predict<&'a Array2<f32>, Array1<f32>>,
{
    let mut group = c.benchmark_group(format!("{name}/score"));
    group.sample_size(10);
    for (id, rows) in datasets() {
        let Ok(model) = fit(&rows) else { panic!("these rows can be fitted") };
        group.throughput(Throughput::Elements(rows.records().nrows() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(id), &rows, |b, rows| {
            b.iter(|| -> Array1<f32> { black_box(model.predict(rows.records())) });
        });
    }
    group.finish();
}

fn isolation_forest(c: &mut Criterion) {
    let fit = |rows: &Rows| IsolationForest::params().fit(rows);
    time_fit(c, "isolation forest", fit);
    for instructions in [Instructions::Detected, Instructions::Portable] {
        let name = format!("isolation forest, {instructions:?}");
        time_score(c, &name, |rows| fit(rows).map(|f| f.with_instructions(instructions)));
    }
}

fn nearest_neighbor_ensemble(c: &mut Criterion) {
    let fit = |rows: &Rows| NearestNeighborEnsemble::params().fit(rows);
    time_fit(c, "nearest-neighbour ensemble", fit);
    time_score(c, "nearest-neighbour ensemble", fit);
}

criterion_group!(benches, isolation_forest, nearest_neighbor_ensemble);
criterion_main!(benches);
