//! Squared distances from one row to many reference rows, sixteen at a time.

/// References of a panel: a vector register of AVX-512, four of SSE.
pub(super) const PANEL: usize = 16;

/// Largest magnitude of a scaled value, so that squares and their sums stay finite in f32.
pub(super) const LARGEST: f32 = 1e15;

/// The reference nearest to `row` among `panels`, as (index, squared distance). A panel holds
/// sixteen references column by column: `panels[(panel * n_columns + column) * 16 + reference]`.
///
/// Each reference's sum runs over the columns in order, whatever the vector width, so all
/// instruction sets give the same bits.
pub(super) fn nearest(row: &[f32], panels: &[f32], n_references: usize) -> (usize, f32) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature.
            return unsafe { nearest_avx512(row, panels, n_references) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { nearest_avx2(row, panels, n_references) };
        }
    }
    nearest_portable(row, panels, n_references)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn nearest_avx512(row: &[f32], panels: &[f32], n_references: usize) -> (usize, f32) {
    nearest_portable(row, panels, n_references)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn nearest_avx2(row: &[f32], panels: &[f32], n_references: usize) -> (usize, f32) {
    nearest_portable(row, panels, n_references)
}

#[inline(always)]
fn nearest_portable(row: &[f32], panels: &[f32], n_references: usize) -> (usize, f32) {
    let mut best = (0, f32::INFINITY);
    for (panel, values) in panels.chunks_exact(row.len() * PANEL).enumerate() {
        let mut squares = [0.0_f32; PANEL];
        for (&value, references) in row.iter().zip(values.chunks_exact(PANEL)) {
            for (square, &reference) in squares.iter_mut().zip(references) {
                let gap = value - reference;
                *square += gap * gap;
            }
        }
        let used = (n_references - panel * PANEL).min(PANEL);
        for (lane, &square) in squares[..used].iter().enumerate() {
            if square < best.1 {
                best = (panel * PANEL + lane, square);
            }
        }
    }
    best
}

/// Panels that are measured side by side: the sums of one alone wait for each other.
const ABREAST: usize = 4;

/// The squared distances from `row` to the nearest reference of each of some draws, which lie one
/// after another: the same bits as [`nearest`] finds one by one.
pub(super) fn nearest_of_each(
    row: &[f32],
    draws: &[f32],
    n_references: usize,
    squares: &mut Vec<f32>,
) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature.
            return unsafe { nearest_of_each_avx512(row, draws, n_references, squares) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { nearest_of_each_avx2(row, draws, n_references, squares) };
        }
    }
    nearest_of_each_portable(row, draws, n_references, squares);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn nearest_of_each_avx512(row: &[f32], draws: &[f32], n_references: usize, out: &mut Vec<f32>) {
    nearest_of_each_portable(row, draws, n_references, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn nearest_of_each_avx2(row: &[f32], draws: &[f32], n_references: usize, out: &mut Vec<f32>) {
    nearest_of_each_portable(row, draws, n_references, out);
}

#[inline(always)]
fn nearest_of_each_portable(row: &[f32], draws: &[f32], n_references: usize, out: &mut Vec<f32>) {
    out.clear();
    let panel_len = row.len() * PANEL;
    let panels_each = n_references.div_ceil(PANEL);
    let mut at = 0;
    let mut least = f32::INFINITY;
    let mut take = |square: [f32; PANEL]| {
        let panel = at % panels_each;
        let used = (n_references - panel * PANEL).min(PANEL);
        least = least.min(smallest(square, used));
        at += 1;
        if at % panels_each == 0 {
            out.push(std::mem::replace(&mut least, f32::INFINITY));
        }
    };
    let mut groups = draws.chunks_exact(panel_len * ABREAST);
    for group in &mut groups {
        let mut squares = [[0.0_f32; PANEL]; ABREAST];
        for (column, &value) in row.iter().enumerate() {
            for (number, square) in squares.iter_mut().enumerate() {
                let start = number * panel_len + column * PANEL;
                add_gaps(square, value, &group[start..start + PANEL]);
            }
        }
        squares.into_iter().for_each(&mut take);
    }
    for panel in groups.remainder().chunks_exact(panel_len) {
        let mut square = [0.0_f32; PANEL];
        for (&value, references) in row.iter().zip(panel.chunks_exact(PANEL)) {
            add_gaps(&mut square, value, references);
        }
        take(square);
    }
}

#[inline(always)]
fn add_gaps(squares: &mut [f32; PANEL], value: f32, references: &[f32]) {
    for (square, &reference) in squares.iter_mut().zip(references) {
        let gap = value - reference;
        *square += gap * gap;
    }
}

/// The least of the first `used` of a panel's sums.
#[inline(always)]
fn smallest(mut squares: [f32; PANEL], used: usize) -> f32 {
    squares[used..].fill(f32::INFINITY);
    let mut half = PANEL / 2;
    while half > 0 {
        for at in 0..half {
            let (a, b) = (squares[at], squares[at + half]);
            squares[at] = if b < a { b } else { a };
        }
        half /= 2;
    }
    squares[0]
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn draws_together_are_as_near_as_one_by_one() {
        let mut rng = SmallRng::seed_from_u64(3);
        for (n_columns, n_references, n_draws) in
            [(1, 1usize, 1), (20, 16, 50), (7, 5, 9), (3, 17, 6), (20, 40, 13)]
        {
            let len = n_references.div_ceil(PANEL) * PANEL * n_columns;
            let draws: Vec<f32> = (0..len * n_draws).map(|_| rng.gen_range(-3.0..3.0)).collect();
            let row: Vec<f32> = (0..n_columns).map(|_| rng.gen_range(-3.0..3.0)).collect();
            let one_by_one: Vec<f32> =
                draws.chunks_exact(len).map(|draw| nearest(&row, draw, n_references).1).collect();
            let mut together = Vec::new();
            nearest_of_each(&row, &draws, n_references, &mut together);
            assert_eq!(together, one_by_one, "{n_columns} {n_references} {n_draws}");
            nearest_of_each_portable(&row, &draws, n_references, &mut together);
            assert_eq!(together, one_by_one);
        }
    }
}
