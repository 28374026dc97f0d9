//! Exact intervals.
#![allow(dead_code)]

/// The least count that a Poisson variable exceeds with a probability of at most .001.
pub fn at_most(expected: f64) -> u32 {
    if expected > 100.0 {
        return (expected + 3.1 * expected.sqrt()).ceil() as u32;
    }
    let (mut term, mut sum, mut count) = ((-expected).exp(), (-expected).exp(), 0u32);
    while sum < 0.999 {
        count += 1;
        term *= expected / f64::from(count);
        sum += term;
    }
    count
}

/// Clopper-Pearson interval of 95 % of a share.
pub fn share_interval(found: u32, of: u32) -> (f64, f64) {
    // P(at least `k` of n) at p.
    let at_least = |k: u32, p: f64| -> f64 {
        let mut choose = 1.0;
        let mut below = 0.0;
        for i in 0..k {
            below += choose * p.powi(i as i32) * (1.0 - p).powi((of - i) as i32);
            choose *= f64::from(of - i) / f64::from(i + 1);
        }
        1.0 - below
    };
    let solve = |k: u32, tail: f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if at_least(k, middle) < tail { low = middle } else { high = middle }
        }
        low
    };
    let low = if found == 0 { 0.0 } else { solve(found, 0.025) };
    let high = if found == of { 1.0 } else { solve(found + 1, 0.975) };
    (low, high)
}

#[test]
fn intervals_are_those_of_the_tables() {
    let (low, high) = share_interval(19, 20);
    assert!((low - 0.7513).abs() < 1e-3 && (high - 0.9987).abs() < 1e-3, "{low} {high}");
    let (low, high) = share_interval(20, 20);
    assert!((low - 0.8316).abs() < 1e-3 && high == 1.0, "{low}");
    assert_eq!((at_most(5.0), at_most(1.0)), (13, 5));
}
