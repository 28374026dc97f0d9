//! Intervals of shares and of rates.

/// Of both tails together.
const ALPHA: f64 = 0.05;

/// Clopper-Pearson 95 % interval of a share, found by bisection of the binomial tails.
pub fn share_interval(found: usize, of: usize) -> (f64, f64) {
    let low = match found {
        0 => 0.0,
        _ => bisect(|p| at_least(found, of, p) - ALPHA / 2.0, 0.0, 1.0),
    };
    let high =
        if found == of { 1.0 } else { bisect(|p| ALPHA / 2.0 - at_most(found, of, p), 0.0, 1.0) };
    (low, high)
}

/// Exact 95 % interval of a Poisson mean after `count` events.
pub fn poisson_interval(count: usize) -> (f64, f64) {
    let far = 4.0 * (count as f64 + 4.0);
    let low = match count {
        0 => 0.0,
        _ => bisect(|mean| 1.0 - poisson_at_most(count - 1, mean) - ALPHA / 2.0, 0.0, far),
    };
    (low, bisect(|mean| ALPHA / 2.0 - poisson_at_most(count, mean), 0.0, far))
}

/// Exact two-sided McNemar test: how likely so uneven a split of changed pairs is by chance.
pub fn mcnemar(lost: usize, gained: usize) -> f64 {
    (2.0 * at_most(lost.min(gained), lost + gained, 0.5)).min(1.0)
}

/// Where a rising function crosses zero.
fn bisect(rising: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if rising(middle) < 0.0 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

fn at_most(count: usize, of: usize, p: f64) -> f64 {
    (0..=count).map(|k| binomial(k, of, p)).sum()
}

fn at_least(count: usize, of: usize, p: f64) -> f64 {
    (count..=of).map(|k| binomial(k, of, p)).sum()
}

fn binomial(k: usize, of: usize, p: f64) -> f64 {
    if p <= 0.0 {
        return f64::from(u8::from(k == 0));
    }
    if p >= 1.0 {
        return f64::from(u8::from(k == of));
    }
    let ways: f64 = (0..k).map(|i| (((of - i) as f64) / ((i + 1) as f64)).ln()).sum();
    (ways + k as f64 * p.ln() + (of - k) as f64 * (1.0 - p).ln()).exp()
}

fn poisson_at_most(count: usize, mean: f64) -> f64 {
    let mut term = (-mean).exp();
    let mut sum = term;
    for k in 1..=count {
        term *= mean / k as f64;
        sum += term;
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(is: (f64, f64), low: f64, high: f64) {
        assert!((is.0 - low).abs() < 5e-4 && (is.1 - high).abs() < 5e-4, "{is:?}");
    }

    /// Figures of R's `binom.test` and `poisson.test`.
    #[test]
    fn intervals_are_those_of_the_books() {
        close(share_interval(20, 20), 0.8316, 1.0);
        close(share_interval(0, 20), 0.0, 0.1684);
        close(share_interval(14, 24), 0.3664, 0.7789);
        close(poisson_interval(0), 0.0, 3.6889);
        close(poisson_interval(5), 1.6235, 11.6683);
        close((mcnemar(1, 9), mcnemar(0, 0)), 0.0215, 1.0);
    }
}
