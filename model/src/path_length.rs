//! The expected path length of an unsuccessful search, which normalises isolation depths.

/// Euler's constant.
const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;

/// Average path length c(n) of an unsuccessful search in a binary search tree of `samples` keys
/// (Liu, Ting, Zhou 2008, equation 1).
///
/// c(n) = 2 H(n - 1) - 2 (n - 1) / n with H(i) = ln i + γ for n > 2; c(2) = 1 and c(1) = c(0) = 0
/// exactly, where the logarithm would be a poor approximation of the harmonic number.
///
/// ```
/// use hedgerow_model::average_path_length;
///
/// assert_eq!(average_path_length(1), 0.0);
/// assert_eq!(average_path_length(2), 1.0);
/// assert!((average_path_length(256) - 10.244_770_9).abs() < 1e-6);
/// ```
#[must_use]
pub fn average_path_length(samples: u32) -> f64 {
    match samples {
        0 | 1 => 0.0,
        2 => 1.0,
        n => {
            let n = f64::from(n);
            2.0 * ((n - 1.0).ln() + EULER_GAMMA) - 2.0 * (n - 1.0) / n
        }
    }
}

/// Anomaly score 2^(-mean path length / c(psi)) in (0, 1] (Liu, Ting, Zhou 2008, equation 2).
///
/// A forest of single-row samples isolates nothing: c(1) = 0 and every row scores 1/2, which is
/// what a path of average length scores.
#[must_use]
pub(crate) fn score_of(mean_path_length: f64, sample_size: u32) -> f64 {
    let normaliser = average_path_length(sample_size);
    if normaliser == 0.0 { 0.5 } else { (-mean_path_length / normaliser).exp2() }
}
